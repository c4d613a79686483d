"""JSON from a provider, read leniently where one meaning can be seen: it may name a paid picture.

What is read is bounded all the same: bytes by the caller, values and depth here.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_DEPTH = 64
MOST_MARKS = 100_000
"""How many brackets and commas a body may hold: each value costs memory far beyond its bytes."""
MOST_DIGITS = 4_000
BOM = "\ufeff"
BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+[{\[]")
"""Objects and lists: whatever else a body is, it tells nothing."""
NOT_BLANK = re.compile(r"[^ \t\r\n]")
SURROGATE = re.compile(r"[\ud800-\udfff]")


class Unreadable(Exception):
    """No JSON, or too much of it."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON value; `odd` when a strict reader would have refused the text."""

    value: Any
    odd: bool = False


def parse(body: bytes | bytearray) -> Document:
    """Read an object or a list.

    The last of equal keys wins, NaN and infinities are null, whatever follows the first value is
    ignored, and bytes or surrogates that are no text become U+FFFD. `Unreadable` for nesting
    beyond `MOST_DEPTH` and for text that does not begin with such a value.
    """
    if BEGINS.match(body) is None:
        raise Unreadable("not JSON")
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > MOST_MARKS:
        raise Unreadable("too many values")
    text = body.decode(errors="replace")
    marked = text.startswith(BOM)
    damaged = "\ufffd" in text and b"\xef\xbf\xbd" not in body
    reading = _Reading(odd=marked or damaged)
    try:
        start = NOT_BLANK.search(text, 1 if marked else 0)
        value, end = reading.decoder().raw_decode(text, start.start() if start else 0)
        checked = reading.checked(value)
    except (ValueError, RecursionError):
        pass  # the originals hold the whole document
    else:
        return Document(checked, reading.odd or NOT_BLANK.search(text, end) is not None)
    raise Unreadable("not JSON")


@dataclass(slots=True)
class _Reading:
    """One text being read, and whether anything in it was odd."""

    odd: bool = field(default=False)

    def decoder(self) -> json.JSONDecoder:
        return json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._nothing,
            parse_float=self._float,
            parse_int=self._int,
        )

    def _object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        self.odd = self.odd or len(keys) != len(pairs)
        return keys

    def _nothing(self, _constant: str) -> None:
        self.odd = True

    def _float(self, text: str) -> float | None:
        number = float(text)
        if math.isfinite(number):
            return number
        self.odd = True
        return None

    def _int(self, text: str) -> int | None:
        if len(text) <= MOST_DIGITS:
            return int(text)
        self.odd = True
        return None

    def checked(self, value: Any) -> Any:
        """The value within the depth; rebuilt only when some text in it cannot be encoded."""
        lone = False
        pending = [(value, 1)]
        while pending:
            node, depth = pending.pop()
            if isinstance(node, dict | list):
                if depth > MOST_DEPTH:
                    raise ValueError("too deep")
                pending.extend((child, depth + 1) for child in node)
                if isinstance(node, dict):
                    pending.extend((child, depth + 1) for child in node.values())
            elif isinstance(node, str) and not node.isascii():
                lone = lone or SURROGATE.search(node) is not None
        self.odd = self.odd or lone
        return _mended(value) if lone else value


def _mended(node: Any) -> Any:
    if isinstance(node, str):
        return SURROGATE.sub("\ufffd", node)
    if isinstance(node, list):
        return [_mended(child) for child in node]
    if isinstance(node, dict):
        return {_mended(key): _mended(child) for key, child in node.items()}
    return node
