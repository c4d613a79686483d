"""Reading a file that is sent as it is, as the body of a request; and dropping one."""

import asyncio
from contextlib import suppress

from starlette.requests import Request

from app.api.request_body import discard, discard_oversized, get_content_length, read_in_time
from app.api.state import get_edge_settings
from app.domain.errors import InvalidRequest

MAX_UPLOAD_DISCARD_BYTES = 64 << 20


async def discard_upload(request: Request) -> None:
    """Read an upload to its end, because clients read the answer only then; for a limited time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(get_edge_settings(request).body_timeout_s):
            await discard(request.receive, MAX_UPLOAD_DISCARD_BYTES)


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """Raises `InvalidRequest` for one that is too large, coded or late."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise InvalidRequest(
            "unsupported_media_type", "Send the file without content encoding (no gzip)."
        )
    raw = None
    if get_content_length(request) <= max_bytes:
        raw = await read_in_time(request, max_bytes)
    if raw is None:
        await discard_oversized(request)
        raise InvalidRequest(
            "request_too_large", f"The file is larger than {max_bytes >> 20} MB. Send a part of it."
        )
    return raw
