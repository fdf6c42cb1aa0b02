"""How one HTTP node is spoken to: headers that both servers take, and answers read as their asker wants."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec
from elastic_transport import HttpHeaders, NdjsonSerializer, NodeConfig, OrjsonSerializer, Urllib3HttpNode
from elastic_transport._node import NodeApiResponse
from elastic_transport.client_utils import DEFAULT, DefaultType


class AnyServerNode(Urllib3HttpNode):
    """A node that lets the Elasticsearch client speak to OpenSearch as well.

    The client sends vendor media types, which OpenSearch refuses, and refuses answers without a product
    header, which OpenSearch does not send. Vendor types go out only once a server has shown itself to be
    Elasticsearch: there they keep the answers of a 9.x server in the form of 8.x.
    """

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._elasticsearch = False

    def perform_request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> NodeApiResponse:
        sent = HttpHeaders(headers or {})
        if not self._elasticsearch:
            for name in ("accept", "content-type"):
                if name in sent:
                    sent[name] = sent[name].partition(";")[0].replace("vnd.elasticsearch+", "")
        answer = super().perform_request(method, target, body, sent, request_timeout)
        if "x-elastic-product" in answer.meta.headers:
            self._elasticsearch = True
        else:
            answer.meta.headers["x-elastic-product"] = "Elasticsearch"
        return answer


decoder: ContextVar[Callable[[bytes], Any] | None] = ContextVar("decoder", default=None)
"""How the answer of the request that is under way is read."""


class Answers(OrjsonSerializer):
    def json_loads(self, data: bytes) -> Any:
        decode = decoder.get()
        if decode is not None:
            try:
                return decode(data)
            except msgspec.ValidationError:  # an error in place of the answer
                pass
        return super().json_loads(data)


class Lines(NdjsonSerializer):
    """Passes on a body that is encoded already; the client's own copies it twice, a twentieth of what writing
    a row costs a gateway."""

    def dumps(self, data: Any) -> bytes:
        return data if isinstance(data, bytes) and data.endswith(b"\n") else super().dumps(data)
