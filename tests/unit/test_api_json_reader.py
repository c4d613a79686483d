"""The strict JSON reader: linear, exact, and silent about what it read."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.request_body import canonical_json, parse_json_object
from app.domain.errors import InvalidRequest

SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(
    st.characters(exclude_categories=["Cs"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner), max_leaves=10
)


@given(st.dictionaries(st.text("abcdef"), VALUES), st.booleans())
def test_what_json_writes_is_read_back(body: dict[str, object], ascii: bool) -> None:
    assert parse_json_object(json.dumps(body, ensure_ascii=ascii).encode()) == body


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse_json_object(raw), dict)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":"' + b'\\"' * 90_000, b"[" * 33 + b'"' + b'\\"' * 90_000, b'{"a":"' + b"{" * 190_000],
    ids=["unclosed string", "unclosed and deep", "braces in a string"],
)
def test_hostile_bodies_are_read_in_linear_time(raw: bytes) -> None:
    started = time.process_time()

    with pytest.raises(InvalidRequest):
        parse_json_object(raw)

    assert time.process_time() - started < 0.25


def test_brackets_inside_strings_are_no_depth() -> None:
    text = '[{"\\"' * 100

    assert parse_json_object(json.dumps({"a": text}).encode()) == {"a": text}


def test_equal_bodies_have_one_spelling() -> None:
    assert canonical_json({"a": 1, "b": [1, 2]}) == canonical_json({"b": [1, 2], "a": 1})
    assert canonical_json({"a": 1}) != canonical_json({"a": 1.0})
