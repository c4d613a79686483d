"""When a signed link itself ends: what object stores and their front doors write into its query."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

MAX_URL_CHARS = 8 * 1024
MAX_QUERY_FIELDS = 100
MIN_EXPIRY_S = 1_000_000_000
MAX_EXPIRY_S = 4_102_444_800
"""September 2001 and January 2100: a moment outside is no moment a host could mean."""

SIGNED_DATE = re.compile(r"x-([a-z]{2,10})-date", re.ASCII)
"""AWS, Google, Aliyun, Volcengine, Huawei: `X-…-Date` and `X-…-Expires` (signature version 4)."""
COMPACT_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
SECONDS = re.compile(r"[0-9]{1,10}", re.ASCII)
ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,16}(Z|\+00:00)?)?", re.ASCII)


def expires_ms(url: str) -> int | None:
    """Unix milliseconds at which the link ends by its own words, the earliest if it has several.

    None when it says nothing, or nothing that can be meant. The moment may be in the past.
    """
    fields = _query_fields(url)
    moments = [s for s in _expiry_times(fields) if MIN_EXPIRY_S <= s <= MAX_EXPIRY_S]
    return round(min(moments) * 1000) if moments else None


def _query_fields(url: str) -> Mapping[str, str]:
    """The query's fields in lower case; the first of each name, as the signer meant it."""
    if len(url) > MAX_URL_CHARS:
        return {}
    try:
        pairs = parse_qsl(urlsplit(url).query, max_num_fields=MAX_QUERY_FIELDS, errors="replace")
    except ValueError:
        return {}
    return {name.lower(): value for name, value in reversed(pairs)}


def _expiry_times(fields: Mapping[str, str]) -> Iterator[float]:
    for name, value in fields.items():
        signer = SIGNED_DATE.fullmatch(name)
        if signer is not None:
            yield _parse_compact(value) + _parse_seconds(fields.get(f"x-{signer[1]}-expires"))
    yield _parse_seconds(fields.get("expires"))
    if "sig" in fields:
        yield _parse_iso(fields.get("se", ""))
    yield _parse_seconds(fields.get("q-sign-time", "").partition(";")[2])
    if "token" in fields:
        yield _parse_seconds(fields.get("e"))


def _parse_seconds(text: str | None) -> float:
    return float(text) if text is not None and SECONDS.fullmatch(text) else float("nan")


def _parse_compact(text: str) -> float:
    if not COMPACT_TIME.fullmatch(text):
        return float("nan")
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def _parse_iso(text: str) -> float:
    """Azure: a day or a second, UTC when it names no zone; a day alone ends with it."""
    if not ISO_TIME.fullmatch(text):
        return float("nan")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return float("nan")
    rest_s = 0 if "T" in text else 86_400
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() + rest_s
