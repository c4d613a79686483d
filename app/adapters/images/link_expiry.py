"""When a signed link expires, read from its query as object stores and CDNs write it."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import unquote_plus

MAX_URL_CHARS = 8 * 1024
MAX_QUERY_FIELDS = 100
MIN_EXPIRY_S = 1_000_000_000
MAX_EXPIRY_S = 4_102_444_800
"""September 2001 and January 2100: a time outside these is not an expiry."""

SIGNED_DATE = re.compile(r"x-([a-z]{2,10})-date", re.ASCII)
"""AWS, Google, Aliyun, Volcengine, Huawei: `X-…-Date` and `X-…-Expires` (signature version 4)."""
COMPACT_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
SECONDS = re.compile(r"[0-9]{1,10}", re.ASCII)
ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,16}(Z|\+00:00)?)?", re.ASCII)


def expires_ms(url: str) -> int | None:
    """Unix milliseconds at which the link expires, the earliest if it names several.

    None when it names none, or none that makes sense. The time may be in the past.
    """
    fields = _query_fields(url)
    moments = [s for s in _expiry_times(fields) if MIN_EXPIRY_S <= s <= MAX_EXPIRY_S]
    return round(min(moments) * 1000) if moments else None


def _query_fields(url: str) -> Mapping[str, str]:
    """The query's fields by lower-case name. Of equal names the first counts, as for the signer."""
    if len(url) > MAX_URL_CHARS:
        return {}
    pairs = url.partition("#")[0].partition("?")[2].split("&")
    if len(pairs) > MAX_QUERY_FIELDS:
        return {}
    fields: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value:
            fields.setdefault(unquote_plus(name).lower(), unquote_plus(value))
    return fields


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
    """Azure: a date or a time, in UTC when no zone is named; a date means the end of that day."""
    if not ISO_TIME.fullmatch(text):
        return float("nan")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return float("nan")
    rest_s = 0 if "T" in text else 86_400
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() + rest_s
