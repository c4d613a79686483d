"""GET /v1/images/{name}: stored bytes, to whoever has a signed link and to their owner."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.auth import authenticate_request
from app.api.cookie import has_key_header
from app.api.errors import ErrorResponse, wrong_method_error
from app.api.image_stream import OpenedImage, build_body_message, send_image
from app.api.parameters import parse_query_choice
from app.api.response_headers import is_unmodified
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import ImageNotFound
from app.domain.media import ATTACHMENT_MEDIA_TYPES, IMAGE_NAME, PreviewSize, media_type_of
from app.domain.principal import Principal

POST_ONLY_NAMES = frozenset({"generations", "edits", "variations"})
"""Last parts of URLs that look like a picture's and only take POST."""
TOO_MANY_DOWNLOADS = "This picture is being downloaded too often at once; try again shortly."
SANDBOX_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


async def read(request: Request) -> Response:
    """The bytes of a picture, with an ETag; 304 when you have them already. `size` asks for a
    smaller WebP, where one can be made: otherwise the picture itself comes."""
    name: str = request.path_params["name"]
    if name in POST_ONLY_NAMES:
        return ErrorResponse(wrong_method_error().note, headers={"allow": "POST"})
    is_signed = _has_valid_signature(request, name)
    principal = None if is_signed else await _authenticate_owner(request)
    size = _parse_size(request)
    wanted = name if size is None else size.name_of(name)
    if is_signed and is_unmodified(request, f'"{wanted}"'):
        return Response(b"", 304, _build_headers(request, wanted, is_signed=is_signed))
    gateway = get_app_state(request).gateway
    get_access_record(request).cleanups.append(
        await gateway.downloads.take(name, TOO_MANY_DOWNLOADS)
    )
    first = await gateway.tasks.picture(principal, name)
    if size is not None and (preview := await gateway.previews.open(name, size)) is not None:
        name, first = preview
    headers = _build_headers(request, name, is_signed=is_signed)
    if is_unmodified(request, headers["etag"]):
        return Response(b"", 304, headers)
    if len(first.body) == first.size:
        return Response(first.body, 200, headers, first.media_type)
    headers["content-length"] = str(first.size)
    if request.method == "HEAD":
        return Response(b"", 200, headers, first.media_type)
    return _ImageResponse(request, OpenedImage(name, first), headers)


def _build_headers(request: Request, name: str, *, is_signed: bool) -> dict[str, str]:
    return {
        **SANDBOX_HEADERS,
        **_build_disposition(name),
        "etag": f'"{name}"',
        "cache-control": _build_cache_control(request, is_signed),
    }


def _parse_size(request: Request) -> PreviewSize | None:
    word = parse_query_choice(request.query_params, "size", tuple(PreviewSize))
    return None if word is None else PreviewSize(word)


class _ImageResponse(Response):
    """A picture that is sent in parts, see `app.api.image_stream`."""

    def __init__(self, request: Request, picture: OpenedImage, headers: dict[str, str]) -> None:
        super().__init__(b"", 200, headers, picture.first.media_type)
        self._request, self._picture = request, picture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        serving = get_app_state(self._request).gateway.serving
        await send_image(self._request, send, self._picture, serving)
        await send(build_body_message(b"", more=False))


def _build_disposition(name: str) -> dict[str, str]:
    """A browser saves what it might run, and unknown bytes; it never shows them."""
    saved = media_type_of(name) in ATTACHMENT_MEDIA_TYPES
    return {"content-disposition": f'attachment; filename="{name}"' if saved else "inline"}


def _has_valid_signature(request: Request, name: str) -> bool:
    """Whether the link carries a valid signature. Then no key is needed, and none is read."""
    query = request.query_params
    exp, sig = query.get("exp"), query.get("sig")
    if exp is None or sig is None or IMAGE_NAME.fullmatch(name) is None:
        return False
    return get_app_state(request).gateway.links.verify(name, exp, sig)


async def _authenticate_owner(request: Request) -> Principal:
    if "sig" in request.query_params and "authorization" not in request.headers:
        raise ImageNotFound
    return await authenticate_request(request)


def _build_cache_control(request: Request, is_signed: bool) -> str:
    """The bytes behind a name never change, but a cached copy must not outlive its link. A browser
    with a session asks each time: it may have been deleted, or somebody else may sit there."""
    settings = get_edge_settings(request)
    if not is_signed:
        if not has_key_header(request):
            return "private, no-cache"
        return f"private, max-age={settings.link_ttl_s}, immutable"
    left_s = int(request.query_params["exp"]) - int(settings.now())
    return f"public, max-age={max(left_s, 0)}, immutable"
