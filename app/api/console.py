"""GET / and /console/…: the page, for holders of keys and for operators.

The files lie in `app/console/` as they are sent: no build step, nothing from elsewhere. The policy
allows only files of this origin and no inline code.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app import console
from app.api.errors import unknown_url_error
from app.api.response_body import get_public_origin, json_response
from app.api.response_headers import is_unmodified
from app.api.state import get_edge_settings

FOLDER = Path(console.__file__).parent
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
SHELL = "shell.html"
PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "vary": "accept",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """The bytes of one file, shared by all who read it."""

    body: bytes
    media_type: str
    etag: str


async def shell(request: Request) -> Response:
    """A browser gets the page; a program is told where the documentation is."""
    settings = get_edge_settings(request)
    if not settings.console or not _wants_html(request):
        root = get_public_origin(request)
        content: dict[str, str] = {"object": "koi", "base_url": f"{root}/v1"}
        if settings.docs:
            content |= {"documentation": f"{root}/docs", "schema": f"{root}/openapi.json"}
        return json_response(orjson.dumps(content), {"vary": "accept"})
    return Response(
        load_shell(settings.docs, settings.sso), 200, PAGE_HEADERS, "text/html; charset=utf-8"
    )


async def asset(request: Request) -> Response:
    """A style sheet, script or picture of the page."""
    parts = request.path_params
    folder = f"{parts['folder']}/" if "folder" in parts else ""
    file = load_files().get(folder + parts["name"])
    if file is None or not get_edge_settings(request).console:
        raise unknown_url_error()
    headers = {
        "cache-control": "no-cache",
        "etag": file.etag,
        "cross-origin-resource-policy": "same-origin",
    }
    if is_unmodified(request, file.etag):
        return Response(b"", 304, headers)
    return Response(file.body, 200, headers, file.media_type)


@cache
def load_files() -> dict[str, PageFile]:
    """Every file that may be sent, by its path below /console/. All are read once, together: what
    a request names is never looked for on disk."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        media_type = MEDIA_TYPES.get(path.suffix)
        if path.is_file() and media_type is not None:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found[path.relative_to(FOLDER).as_posix()] = PageFile(body, media_type, etag)
    return found


@cache
def load_shell(docs: bool, sso: bool) -> str:
    """The first thing that a browser gets; it names the modules that every visitor needs, so that
    they are fetched side by side."""
    names = [name for name in load_files() if _is_first(name)]
    links = "\n".join(f'<link rel="modulepreload" href="console/{name}">' for name in names)
    text = (FOLDER / SHELL).read_text()
    text = text.replace("<!-- modules -->", links).replace("{docs}", "yes" if docs else "no")
    return text.replace("{sso}", "yes" if sso else "no")


def _is_first(name: str) -> bool:
    """The rest is loaded by the screens that need it."""
    lazy = name.startswith(("operator/", "holder/")) or "uplot" in name.lower()
    return name.endswith(".js") and not lazy


def _wants_html(request: Request) -> bool:
    """Whether HTML is named: `*/*`, which programs send, does not name it."""
    accepted = ",".join(request.headers.getlist("accept"))
    kinds = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return not kinds.isdisjoint({"text/html", "application/xhtml+xml"})
