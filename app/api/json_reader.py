"""Strict JSON from raw bytes: what standard parsers let through is refused (reliability, B1-B15).

`orjson` cannot see duplicate keys and Python's own reader accepts NaN, surrogates and numbers of
any length, so the standard reader runs with hooks and two scans in front.
"""

import json
import re
from typing import Any, NoReturn

from app.domain.errors import InvalidRequest

DEEPEST = 32
MOST_MARKS = 5_000
"""Brackets, commas and colons outside of strings: each costs the parser more than any text."""
LONGEST_NUMBER = 32
SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
"""Field names that may be repeated to the caller, in bodies and headers alike."""

# One pass, possessive: linear on any input. An unclosed string runs to the end.
TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
MARKS = (b"[", b"{", b",", b":")


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request body; raises `InvalidRequest`.

    Codes: invalid_json, invalid_body (JSON, but no object), invalid_encoding, duplicate_key,
    too_deep, too_complex.
    """
    if _marks(raw) > MOST_MARKS or raw.count(b'"') > 2 * MOST_MARKS:
        _refuse_marks(raw)
    text = _decode(raw)
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _refuse_depth(raw)
    try:
        value = READER.decode(text)
    except (json.JSONDecodeError, RecursionError):
        raise _broken() from None
    if not isinstance(value, dict):
        raise InvalidRequest("invalid_body", "The body must be a JSON object.")
    if b"\\u" in raw:
        _refuse_surrogates(value)
    return value


def canonical(body: dict[str, Any]) -> str:
    """One spelling for equal bodies, whatever their key order and white space."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _decode(raw: bytes) -> str:
    if b"\x00" in raw[:4]:
        raise _encoding()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _encoding() from None


def _marks(raw: bytes) -> int:
    return sum(map(raw.count, MARKS))


def _refuse_marks(raw: bytes) -> None:
    """What stands in strings does not count. More strings than that need as many marks."""
    bare, strings = STRING.subn(b"", raw, MOST_MARKS)
    if strings == MOST_MARKS or _marks(bare) > MOST_MARKS:
        raise InvalidRequest(
            "too_complex", f"The body has more than {MOST_MARKS} brackets, commas and colons."
        )


def _refuse_depth(raw: bytes) -> None:
    depth = 0
    for match in TOKENS.finditer(raw):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise InvalidRequest(
                    "too_deep", f"The body is nested more than {DEEPEST} levels deep."
                )
        elif first in b"]}":
            depth -= 1


def _refuse_surrogates(body: dict[str, Any]) -> None:
    for name, value in body.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _encoding(name) from None


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise InvalidRequest("invalid_json", "The body holds a number that is too long.")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise InvalidRequest("invalid_json", "The body holds a number that is too large.")
    return value


def _constant(_: str) -> NoReturn:
    raise _broken()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequest(
                    "duplicate_key", "A field is given more than once.", param=_shown(name)
                )
            seen.add(name)
    return fields


def _shown(name: str | None) -> str | None:
    return name if name is not None and SAFE_NAME.fullmatch(name) else None


def _broken() -> InvalidRequest:
    return InvalidRequest("invalid_json", "The body is not valid JSON.")


def _encoding(name: str | None = None) -> InvalidRequest:
    return InvalidRequest(
        "invalid_encoding", "The body must be UTF-8 without lone surrogates.", param=_shown(name)
    )


READER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_real, parse_constant=_constant
)
