"""GET /v1/images/{name}: stored bytes behind a signed link, or to their owner."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.auth import caller
from app.api.errors import ErrorResponse, wrong_method
from app.api.parts import Opened, body_message, send_picture
from app.api.running import edge, exchange, running
from app.domain.errors import ImageNotFound
from app.domain.media import DOWNLOADS, IMAGE_NAME, media_type_of
from app.domain.principal import Principal

VERBS = frozenset({"generations", "edits", "variations"})
"""Names next door that only take POST."""
DOWNLOADS_TAKEN = "This picture is being downloaded too often at once; try again shortly."
SEALED = {
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


async def read(request: Request) -> Response:
    """The picture, with an ETag; 304 when the client has it already."""
    name: str = request.path_params["name"]
    if name in VERBS:
        return ErrorResponse(wrong_method().note, headers={"allow": "POST"})
    opened = _opened(request, name)
    principal = None if opened else await _owner(request)
    headers = {
        **SEALED,
        **_disposition(name),
        "etag": f'"{name}"',
        "cache-control": _caching(request, opened),
    }
    if opened and _unchanged(request, name):
        return Response(b"", 304, headers)
    gateway = running(request).gateway
    exchange(request).held.append(await gateway.downloads.take(name, DOWNLOADS_TAKEN))
    first = await gateway.tasks.picture(principal, name)
    if _unchanged(request, name):
        return Response(b"", 304, headers)
    if len(first.body) == first.size:
        return Response(first.body, 200, headers, first.media_type)
    headers["content-length"] = str(first.size)
    if request.method == "HEAD":
        return Response(b"", 200, headers, first.media_type)
    return _InParts(request, Opened(name, first), headers)


class _InParts(Response):
    """A picture in parts, see `app.api.parts`."""

    def __init__(self, request: Request, picture: Opened, headers: dict[str, str]) -> None:
        super().__init__(b"", 200, headers, picture.first.media_type)
        self._request, self._picture = request, picture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        serving = running(self._request).gateway.serving
        await send_picture(self._request, send, self._picture, serving)
        await send(body_message(b"", more=False))


def _disposition(name: str) -> dict[str, str]:
    """What a browser might run, or nobody knows, is saved and never shown."""
    saved = media_type_of(name) in DOWNLOADS
    return {"content-disposition": f'attachment; filename="{name}"' if saved else "inline"}


def _opened(request: Request, name: str) -> bool:
    """Whether the link's signature opens the picture; then a bearer is neither needed nor read."""
    query = request.query_params
    exp, sig = query.get("exp"), query.get("sig")
    if exp is None or sig is None or IMAGE_NAME.fullmatch(name) is None:
        return False
    return running(request).gateway.links.verify(name, exp, sig)


async def _owner(request: Request) -> Principal:
    if "sig" in request.query_params and "authorization" not in request.headers:
        raise ImageNotFound
    return await caller(request)


def _caching(request: Request, opened: bool) -> str:
    """A name never changes its bytes; a link's copy must not outlive the link."""
    settings = edge(request)
    if not opened:
        return f"private, max-age={settings.link_ttl_s}, immutable"
    left_s = int(request.query_params["exp"]) - int(settings.now())
    return f"public, max-age={max(left_s, 0)}, immutable"


def _unchanged(request: Request, name: str) -> bool:
    """RFC 9110, section 13.1.2, with weak comparison."""
    given = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return f'"{name}"' in tags or "*" in tags
