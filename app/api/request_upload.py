"""Reading a file that is sent as it is, as the body of a request."""

from starlette.requests import Request

from app.api.request_body import discard_oversized, get_content_length, read_in_time
from app.domain.errors import InvalidRequest


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
