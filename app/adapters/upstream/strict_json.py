"""JSON from a stranger, read strictly: one meaning for every reader, and bounded work."""

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

MOST_DEPTH = 64
MOST_MARKS = 100_000
"""How many brackets and commas a body may hold: each value costs memory far beyond its bytes."""


class Unreadable(Exception):
    """Not JSON that every reader reads alike (reliability study, F23), or too much of it."""


def parse(body: bytes) -> Any:
    """Read UTF-8 JSON; `Unreadable` for NaN and infinities, duplicate keys, lone surrogates,
    nesting beyond `MOST_DEPTH` and anything that is no JSON at all.
    """
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > MOST_MARKS:
        raise Unreadable("too many values")
    try:
        value = DECODER.decode(body.decode("utf-8-sig"))
        _check(value)
    except (ValueError, RecursionError):
        pass  # the originals hold the whole document
    else:
        return value
    raise Unreadable("not strict JSON")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("duplicate key")
    return keys


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def _check(value: Any) -> None:
    pending = [(value, 1)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, dict | list):
            if depth > MOST_DEPTH:
                raise ValueError("too deep")
            pending.extend((child, depth + 1) for child in node)
            if isinstance(node, dict):
                pending.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, str):
            _encodable(node)
        elif isinstance(node, float) and not math.isfinite(node):
            raise ValueError("not finite")


def _encodable(text: str) -> None:
    """UnicodeEncodeError, a ValueError, for a lone surrogate."""
    if not text.isascii():
        text.encode()
