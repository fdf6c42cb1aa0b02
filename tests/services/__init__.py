"""Real Elasticsearch, OpenSearch and Redis for the tests, without containers.

`Pool` starts each at most once a run; `python -m tests.services up` keeps all three between runs.
"""

from tests.services.base import Service, ServiceError
from tests.services.pool import SERVICES, Pool

__all__ = ["SERVICES", "Pool", "Service", "ServiceError"]
