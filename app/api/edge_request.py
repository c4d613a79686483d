"""A request whose headers are found by name, and whose empty query is not parsed."""

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.api.state import get_scope_fields

NO_QUERY = QueryParams()


class HeaderIndex(Headers):
    """The first value of each header by its name; Starlette looks at all of them each time. Names
    must be given in lower case."""

    def __init__(self, scope: Scope) -> None:
        self._list = scope["headers"]
        self._first = get_scope_fields(scope)

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        value = self._first.get(key.encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def getlist(self, key: str) -> list[str]:
        value = self._first.get(key.encode("latin-1"))
        if value is None:
            return []
        # Most requests have each header once.
        if len(self._first) == len(self._list):
            return [value.decode("latin-1")]
        return super().getlist(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.encode("latin-1") in self._first


class EdgeRequest(Request):
    headers: Headers = Headers()
    """An attribute in place of a property, which would be called a dozen times."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.headers = HeaderIndex(scope)

    @property
    def query_params(self) -> QueryParams:
        return super().query_params if self.scope["query_string"] else NO_QUERY
