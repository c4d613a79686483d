"""The provider's own names for tasks and calls, and how the ledger writes them."""

import re
from urllib.parse import quote

CALL_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
"""Names that are written unchanged; use with `fullmatch`. See `encode_call_id`."""
PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""Ids as nearly every provider makes them, the same in a URL's path; use with `fullmatch`."""
MAX_ID_BYTES = 512
"""How many bytes of UTF-8 an id of the provider may have."""


def is_task_id(upstream_id: str) -> bool:
    """Whether this can be a task's id: any text but blanks and the path segments `.` and `..`."""
    if PLAIN_ID.fullmatch(upstream_id) is not None:
        return True
    fits = 0 < len(upstream_id.encode(errors="replace")) <= MAX_ID_BYTES
    return fits and upstream_id.strip() not in ("", ".", "..")


def quote_path_segment(upstream_id: str) -> str:
    """The id as one segment of a URL's path, whatever characters it has."""
    if PLAIN_ID.fullmatch(upstream_id) is not None:
        return upstream_id
    return quote(upstream_id, "", errors="replace")


def encode_call_id(upstream_id: str) -> str:
    """How the ledger writes a call: unchanged, or percent-encoded where the id has blanks, control
    characters or the like. No two ids are written alike."""
    return (
        upstream_id if CALL_ID_PATTERN.fullmatch(upstream_id) else quote_path_segment(upstream_id)
    )
