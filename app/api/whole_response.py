"""Answers that are ready as a whole: head and body are handed to the server together."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.state import RawHeaders, get_scope_access_record, get_scope_answer


class WholeResponse(Response):
    def __init__(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = describe_body(headers or {}, len(body), media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send_whole(scope, send, self.status_code, self.raw_headers, bytes(self.body))


def encode_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Headers as the server takes them; their names are in lower case."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def describe_body(headers: Mapping[str, str], body_bytes: int, media_type: str) -> RawHeaders:
    """The same with the two headers that every body has."""
    length = (b"content-length", b"%d" % body_bytes)
    content_type = (b"content-type", media_type.encode("latin-1"))
    return [*encode_headers(headers), length, content_type]


async def send_whole(
    scope: Scope, send: Send, status: int, headers: RawHeaders, body: bytes
) -> None:
    """Send an answer in one step where the server can, and nothing keeps it back."""
    record, answer = get_scope_access_record(scope), get_scope_answer(scope)
    if answer is not None and answer(status, [*headers, *record.stamp], body):
        record.status = status
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
