"""A lenient JSON parser: a faulty reply of the provider may name an image that was paid for.

Its input is still bounded: bytes by the caller, values and depth here.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 64
MAX_STRUCTURAL_CHARS = 100_000
"""How many brackets and commas a body may have: a value takes far more memory than bytes."""
MAX_DIGITS = 4_000
BOM = "\ufeff"
JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+[{\[]")
"""Objects and lists: any other value tells nothing."""
NOT_BLANK = re.compile(r"[^ \t\r\n]")
SURROGATE = re.compile(r"[\ud800-\udfff]")


class InvalidJson(Exception):
    """No JSON, or too many values."""


@dataclass(frozen=True, slots=True)
class JsonDocument:
    """A JSON value; `is_nonstandard` when a strict parser would have refused the text."""

    value: Any
    is_nonstandard: bool = False


def parse_lenient_json(body: bytes | bytearray) -> JsonDocument:
    """Parse an object or a list.

    The last of equal keys wins, NaN and infinities become null, text after the first value is
    ignored, bytes that are no UTF-8 and lone surrogates become U+FFFD. `InvalidJson` for nesting
    deeper than `MAX_DEPTH`, too many values, or text that does not begin with an object or list.
    """
    if JSON_START.match(body) is None:
        raise InvalidJson("not JSON")
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > MAX_STRUCTURAL_CHARS:
        raise InvalidJson("too many values")
    text = body.decode(errors="replace")
    marked = text.startswith(BOM)
    damaged = "\ufffd" in text and b"\xef\xbf\xbd" not in body
    reader = _LenientReader(is_nonstandard=marked or damaged)
    try:
        start = NOT_BLANK.search(text, 1 if marked else 0)
        value, end = reader.decoder().raw_decode(text, start.start() if start else 0)
        checked = reader.validate(value)
    except (ValueError, RecursionError):
        pass  # raised below, without the original error, which holds the whole document
    else:
        return JsonDocument(
            checked, reader.is_nonstandard or NOT_BLANK.search(text, end) is not None
        )
    raise InvalidJson("not JSON")


@dataclass(slots=True)
class _LenientReader:
    """Parses one text, and notes whether anything in it is not standard JSON."""

    is_nonstandard: bool = field(default=False)

    def decoder(self) -> json.JSONDecoder:
        return json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._nothing,
            parse_float=self._float,
            parse_int=self._int,
        )

    def _object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        self.is_nonstandard = self.is_nonstandard or len(keys) != len(pairs)
        return keys

    def _nothing(self, _constant: str) -> None:
        self.is_nonstandard = True

    def _float(self, text: str) -> float | None:
        number = float(text)
        if math.isfinite(number):
            return number
        self.is_nonstandard = True
        return None

    def _int(self, text: str) -> int | None:
        if len(text) <= MAX_DIGITS:
            return int(text)
        self.is_nonstandard = True
        return None

    def validate(self, value: Any) -> Any:
        """The value, if it is not too deep. Rebuilt only when it holds lone surrogates."""
        lone = False
        pending = [(value, 1)]
        while pending:
            node, depth = pending.pop()
            if isinstance(node, dict | list):
                if depth > MAX_DEPTH:
                    raise ValueError("too deep")
                pending.extend((child, depth + 1) for child in node)
                if isinstance(node, dict):
                    pending.extend((child, depth + 1) for child in node.values())
            elif isinstance(node, str) and not node.isascii():
                lone = lone or SURROGATE.search(node) is not None
        self.is_nonstandard = self.is_nonstandard or lone
        return _replace_surrogates(value) if lone else value


def _replace_surrogates(node: Any) -> Any:
    if isinstance(node, str):
        return SURROGATE.sub("\ufffd", node)
    if isinstance(node, list):
        return [_replace_surrogates(child) for child in node]
    if isinstance(node, dict):
        return {_replace_surrogates(key): _replace_surrogates(child) for key, child in node.items()}
    return node
