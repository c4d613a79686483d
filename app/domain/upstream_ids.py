"""The provider's own names for tasks and calls, and how the books spell them."""

import re
from urllib.parse import quote

CALL_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
"""Names that are written as they are; use with `fullmatch`. See `encode_call_id`."""
MAX_ID_BYTES = 512
"""Bytes of UTF-8 that an id of the provider may have."""


def is_task_id(upstream_id: str) -> bool:
    """Whether this can be a task's id: any text but blanks, and no step within a path."""
    fits = 0 < len(upstream_id.encode(errors="replace")) <= MAX_ID_BYTES
    return fits and upstream_id.strip() not in ("", ".", "..")


def quote_path_segment(upstream_id: str) -> str:
    """The id as one segment of a URL's path, whatever it holds."""
    return quote(upstream_id, "", errors="replace")


def encode_call_id(upstream_id: str) -> str:
    """How the books spell a call: as the provider does, percent-encoded where that has blanks,
    control characters or the like. No two ids are spelt alike."""
    return (
        upstream_id if CALL_ID_PATTERN.fullmatch(upstream_id) else quote_path_segment(upstream_id)
    )
