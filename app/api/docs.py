"""GET /openapi.json and /docs: the public contract, and a page to read and try it.

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
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.errors import unknown_url_error
from app.api.openapi import DocumentedRoute, build_openapi
from app.api.response_body import get_public_origin, json_response
from app.api.state import get_edge_settings

ASSET_PACKAGE = "fastapi_offline"
SCRIPT = "text/javascript; charset=utf-8"
ASSET_MEDIA_TYPES = {
    "init.js": SCRIPT,
    "swagger-ui-bundle.js": SCRIPT,
    "swagger-ui.css": "text/css; charset=utf-8",
}
CHUNK_BYTES = 32 << 10
"""A reader that stops holds no more than this in memory."""
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
    """One file of the page; `etag` is a digest of its bytes."""

    body: bytes
    media_type: str
    etag: str


async def schema(request: Request) -> Response:
    """The schema of this API with the limits of this deployment; `KOI_DOCS=off` hides it."""
    _require_docs(request)
    document = {**await _build_document(request), "servers": [{"url": get_public_origin(request)}]}
    return json_response(orjson.dumps(document), {"cache-control": "no-cache"})


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
    found = load_asset(name)
    headers = {"cache-control": "no-cache", "etag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(b"", 304, headers)
    headers["content-length"] = str(len(found.body))
    return StreamingResponse(_chunk(found.body), 200, headers, found.media_type)


@cache
def load_asset(name: str) -> DocsAsset:
    """A file of the page, read once."""
    body = (_find_directory(name) / name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return DocsAsset(body, ASSET_MEDIA_TYPES[name], etag)


def _find_directory(name: str) -> Path:
    if name == "init.js":
        return Path(__file__).parent / "static"
    package = find_spec(ASSET_PACKAGE)
    assert package is not None, "The package is a dependency."
    assert package.submodule_search_locations is not None, "The package is a folder."
    return Path(package.submodule_search_locations[0]) / "static"


async def _chunk(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


async def _build_document(request: Request) -> dict[str, Any]:
    """The document without its address, built at the first request and not on the event loop."""
    app = request.app
    if app.openapi_schema is None:
        routes = [route for route in app.routes if isinstance(route, DocumentedRoute)]
        app.openapi_schema = await asyncio.to_thread(
            build_openapi, routes, get_edge_settings(request)
        )
    document: dict[str, Any] = app.openapi_schema
    return document


def _require_docs(request: Request) -> None:
    """Without documentation these URLs do not exist."""
    if not get_edge_settings(request).docs:
        raise unknown_url_error()
