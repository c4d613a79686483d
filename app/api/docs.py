"""GET /openapi.json, /docs and /llms.txt: the public contract, to read, to try, and for agents.

The page loads nothing from elsewhere: Swagger UI comes from an installed package, which is never
imported, and the policy of the page allows only files of this origin and no inline code.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.errors import unknown_url_error
from app.api.openapi import DocumentedRoute, build_openapi
from app.api.response_body import get_public_origin
from app.api.response_headers import is_unmodified
from app.api.state import get_edge_settings

ASSET_PACKAGE = "fastapi_offline"
SCRIPT = "text/javascript; charset=utf-8"
ASSET_MEDIA_TYPES = {
    "init.js": SCRIPT,
    "swagger-ui-bundle.js": SCRIPT,
    "swagger-ui.css": "text/css; charset=utf-8",
}
CHUNK_BYTES = 32 << 10
STATIC = Path(__file__).parent / "static"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Koi API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{root}docs/swagger-ui-bundle.js"></script>
<script src="{root}docs/init.js"></script>
</body>
</html>
"""
PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class DocsAsset:
    """The bytes of one file, shared by all who read it."""

    body: bytes
    media_type: str
    etag: str


async def schema(request: Request) -> Response:
    """The schema of this API with the limits of this deployment; `KOI_DOCS=off` hides it."""
    _require_docs(request)
    state = request.app.state
    if not hasattr(state, "schema"):
        # Built once and in a thread: it takes up to a second.
        state.schema = asyncio.create_task(asyncio.to_thread(_build_schema, request))
    return _send(request, await asyncio.shield(state.schema))


async def page(request: Request) -> Response:
    """This API as a page; `KOI_DOCS=off` hides it."""
    _require_docs(request)
    # Links are relative, so that they hold behind a proxy's prefix too.
    root = "../" if request.scope.get("raw_path", b"").endswith(b"/") else ""
    return Response(PAGE.format(root=root), 200, PAGE_HEADERS, "text/html; charset=utf-8")


async def asset(request: Request) -> Response:
    """A style sheet or script of the page."""
    _require_docs(request)
    name: str = request.path_params["name"]
    if name not in ASSET_MEDIA_TYPES:
        raise unknown_url_error()
    return _send(request, load_asset(name))


async def llms(request: Request) -> Response:
    """What a program that reads text needs to know (llmstxt.org); `KOI_DOCS=off` hides it."""
    return _send_text(request, "llms.txt", "text/plain; charset=utf-8")


async def skill(request: Request) -> Response:
    """The same as steps for a coding agent; `KOI_DOCS=off` hides it."""
    return _send_text(request, "skill.md", "text/markdown; charset=utf-8")


def _send_text(request: Request, name: str, media_type: str) -> Response:
    _require_docs(request)
    root = get_public_origin(request)
    text = _read_text(name).replace("{base_url}", f"{root}/v1").replace("{root}", root)
    return Response(text, 200, {"cache-control": "no-cache"}, media_type)


@cache
def _read_text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _make_asset(body: bytes, media_type: str) -> DocsAsset:
    return DocsAsset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@cache
def load_asset(name: str) -> DocsAsset:
    """A file of the page, read once."""
    return _make_asset((_find_directory(name) / name).read_bytes(), ASSET_MEDIA_TYPES[name])


def _find_directory(name: str) -> Path:
    if name == "init.js":
        return STATIC
    package = find_spec(ASSET_PACKAGE)
    assert package is not None, "The package is a dependency."
    assert package.submodule_search_locations is not None, "The package is a folder."
    return Path(package.submodule_search_locations[0]) / "static"


async def _chunk(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


def _send(request: Request, asset: DocsAsset) -> Response:
    """In parts, so that a reader that stops holds one of them in memory and no more."""
    headers = {"cache-control": "no-cache", "etag": asset.etag}
    if is_unmodified(request, asset.etag):
        return Response(b"", 304, headers)
    headers["content-length"] = str(len(asset.body))
    return StreamingResponse(_chunk(asset.body), 200, headers, asset.media_type)


def _build_schema(request: Request) -> DocsAsset:
    """The same bytes for every caller: an address that is not configured is a relative one."""
    settings = get_edge_settings(request)
    routes = [route for route in request.app.routes if isinstance(route, DocumentedRoute)]
    address = "." if settings.public_url is None else get_public_origin(request)
    document = {**build_openapi(routes, settings), "servers": [{"url": address}]}
    return _make_asset(orjson.dumps(document), "application/json")


def _require_docs(request: Request) -> None:
    """Without documentation these URLs do not exist."""
    if not get_edge_settings(request).docs:
        raise unknown_url_error()
