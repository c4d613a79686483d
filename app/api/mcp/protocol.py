"""The handshake, sessions and origins of the Model Context Protocol over HTTP.

A session is a name that the client keeps: nothing is stored for it, so any worker of any gateway
serves it, it outlives a restart, and ending it ends nothing that was paid for.
"""

import re
import secrets
from urllib.parse import urlsplit

from starlette.requests import Request

from app.api.mcp.messages import (
    UNSUPPORTED_PROTOCOL_VERSION,
    Json,
    McpMessage,
    ProtocolError,
)
from app.api.state import get_edge_settings
from app.domain.administration import ObjectNotFound
from app.domain.session import CrossOriginRefused

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that begin with `initialize`, from oldest to newest."""
ASSUMED_VERSION = "2025-03-26"
"""Of a request that names none (specification 2025-11-25, Transports)."""
RESOURCE_LINKS_SINCE = "2025-06-18"
EMPTY_EVENTS_SINCE = "2025-11-25"
VERSION_HEADER = "mcp-protocol-version"
SESSION_HEADER = "mcp-session-id"
SESSION_ID = re.compile(r"mcp_[0-9a-f]{32}", re.ASCII)
LOOPBACK_ORIGIN = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?")
FOREIGN_PAGE = (
    "A page of this origin may not use /mcp; nothing was done. The operator can name the origin in "
    "KOI_CORS_ORIGINS."
)
INSTRUCTIONS = (
    "Koi makes pictures from text and keeps them. A call costs money: pass max_cost to bound it. "
    "A call whose answer was lost may be repeated as it was: it joins its task and is paid for "
    "once. What takes long goes on without you: ask get_task for it."
)


def check_origin(request: Request) -> None:
    """A browser says which page sent a request, and a page led here by its own name (DNS
    rebinding) is none of ours. Programs say nothing. Raises `CrossOriginRefused`."""
    origin = request.headers.get("origin")
    if origin is None or LOOPBACK_ORIGIN.fullmatch(origin):
        return
    settings = get_edge_settings(request)
    public = urlsplit(settings.public_url or "")
    if origin not in (*settings.cors_origins, f"{public.scheme}://{public.netloc}"):
        raise CrossOriginRefused(FOREIGN_PAGE)


def negotiate(message: McpMessage, version: str) -> Json:
    """The answer to `initialize`: the client's revision if it is one of ours, else our newest."""
    asked = message.params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "koi", "title": "Koi", "version": version},
        "instructions": INSTRUCTIONS,
    }


def get_version(request: Request) -> str:
    """The revision that this request follows. Raises `ProtocolError` for one that is not ours."""
    version = request.headers.get(VERSION_HEADER, ASSUMED_VERSION)
    if version not in VERSIONS:
        raise ProtocolError(
            UNSUPPORTED_PROTOCOL_VERSION,
            "Unsupported protocol version",
            {"supported": list(VERSIONS), "requested": version},
        )
    return version


def new_session_id() -> str:
    return f"mcp_{secrets.token_hex(16)}"


def get_session_id(request: Request) -> str | None:
    """The session of this request, if any. Raises `ObjectNotFound` for an id that we never gave,
    after which a client begins anew."""
    session = request.headers.get(SESSION_HEADER)
    if session is not None and SESSION_ID.fullmatch(session) is None:
        raise ObjectNotFound("There is no such session; begin with initialize.")
    return session
