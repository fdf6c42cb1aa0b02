"""Real Elasticsearch, OpenSearch and Redis for the tests, without containers.

`Pool` starts each at most once a run, of which several processes may share the tests (`PoolServer`);
`python -m tests.services up` keeps all three between runs.
"""

from tests.services.base import Service, ServiceError
from tests.services.pool import SERVICES, Pool
from tests.services.shared import AskedPool, PoolServer

__all__ = ["SERVICES", "AskedPool", "Pool", "PoolServer", "Service", "ServiceError"]
