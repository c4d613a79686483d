"""Pictures are taken out of JSON alike, however its bytes are divided on the way."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.images.reference_spool import DiskReferenceSpool
from app.api.data_uris import Base64Decoder, DataUriExtractor
from app.api.image_uploads import ImageIntake
from app.domain.errors import InvalidRequest

BODY = bytes(range(256)) * 3
URI = f"data:image/png;base64,{base64.b64encode(BODY).decode()}"
TEXTS = st.one_of(
    st.just(URI),
    st.sampled_from(['data:image/"', "data:image/png;base64", "data:", "", "\\", '\\"', "a\nb/c"]),
    st.text(max_size=30),
)
DOCUMENTS = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def written(document: Any, escape: str) -> bytes:
    text = json.dumps(document, ensure_ascii=escape != "none")
    return (text.replace("/", "\\/") if escape == "slashes" else text).encode()


def strip_marks(value: Any, mark: str) -> Any:
    if isinstance(value, str):
        return URI if mark in value else value
    if isinstance(value, list):
        return [strip_marks(item, mark) for item in value]
    if isinstance(value, dict):
        return {strip_marks(key, mark): strip_marks(item, mark) for key, item in value.items()}
    return value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    document=DOCUMENTS,
    escape=st.sampled_from(["none", "ascii", "slashes"]),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=8),
)
def test_any_division_of_any_document_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, document: Any, escape: str, cuts: list[int]
) -> None:
    intake = ImageIntake(DiskReferenceSpool(tmp_path_factory.getbasetemp() / "s").open("ann"), 1000)
    extractor = DataUriExtractor(intake, 1 << 20)
    raw, at, turn = written(document, escape), 0, 0
    while at < len(raw):
        extractor.feed(raw[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1

    assert strip_marks(json.loads(extractor.rest), intake._mark) == document
    assert len({image.content_digest for image in intake._images}) <= 1


@given(body=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(1, 9), min_size=1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_base64_may_come_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    digits, decoder, decoded, turn = base64.urlsafe_b64encode(body).rstrip(b"="), None, b"", 0
    decoder = Base64Decoder()
    while digits:
        size = cuts[turn % len(cuts)]
        decoded, digits, turn = decoded + decoder.decode(digits[:size]), digits[size:], turn + 1

    assert decoded + decoder.finish() == body


def decoded(digits: bytes) -> bytes:
    decoder = Base64Decoder()
    return decoder.decode(digits) + decoder.finish()


@pytest.mark.parametrize("digits", [b"a", b"aa=a", b"a===a", b"ab\xff=", b"aaaa;", b"aaaaa"])
def test_what_is_no_base64_is_refused(digits: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decoded(digits)


def test_a_flood_of_texts_ends_early(tmp_path: Path) -> None:
    extractor = DataUriExtractor(ImageIntake(DiskReferenceSpool(tmp_path).open("ann"), 1), 1 << 20)

    with pytest.raises(InvalidRequest, match="too many texts"):
        extractor.feed(b'"",' * 20_000)


@pytest.mark.parametrize("escape", [b"\\n", b"\\u002b", b"\\/"], ids=["line", "plus", "slash"])
def test_escapes_cost_about_what_plain_base64_does(tmp_path: Path, escape: bytes) -> None:
    def cost(digits: bytes) -> float:
        file = DiskReferenceSpool(tmp_path).open("ann")
        extractor = DataUriExtractor(ImageIntake(file, 1), 1 << 20)
        body = b'"data:image/png;base64,' + digits
        began = time.process_time()
        for at in range(0, len(body), 65_536):
            extractor.feed(body[at : at + 65_536])
        return time.process_time() - began

    plain, escaped = cost(b"A" * 6_000_000), cost(escape * (6_000_000 // len(escape)))

    # A callback for each escape took thirty times as long, in the event loop.
    assert escaped < 5 * max(plain, 0.01), (escaped, plain)
