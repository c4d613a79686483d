"""Content codings undone in pieces: right, bounded, and honest about a missing end."""

import gzip
import os
import sys
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.http.decoding import (
    MAX_PIECE_BYTES,
    ContentDecoder,
    CorruptEncodedBody,
    DecodedBodyTooLarge,
    UnsupportedContentCoding,
)
from tests.made import MadeOnce

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY = os.urandom(50_000) + b"koi" * 100_000
MOST = 10 << 20


def decode_body(body: bytes, codings: str, *, max_bytes: int) -> bytes:
    """A whole body at once."""
    decoder = ContentDecoder(codings, max_bytes=max_bytes)
    whole = b"".join(decoder.feed(body))
    decoder.finish()
    return whole


def bare_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(body) + coder.flush()


CODED = MadeOnce(
    {
        "gzip": lambda: gzip.compress(BODY),
        "x-gzip": lambda: gzip.compress(BODY),
        "deflate": lambda: zlib.compress(BODY),
        "DEFLATE": lambda: bare_deflate(BODY),
        "br": lambda: brotli.compress(BODY, quality=3),
        "zstd": lambda: zstd.compress(BODY),
        "gzip, br": lambda: brotli.compress(gzip.compress(BODY), quality=1),
        "br, zstd, gzip": lambda: gzip.compress(zstd.compress(brotli.compress(BODY, quality=1))),
        "identity, gzip": lambda: gzip.compress(BODY),
        "": lambda: BODY,
        "aws-chunked": lambda: BODY,
    }
)


@pytest.mark.parametrize("size", [1, 7, 1500, 1 << 20])
@pytest.mark.parametrize("codings", CODED)
def test_whatever_the_pieces_the_same_body_comes_out(codings: str, size: int) -> None:
    coded = CODED[codings]
    if size == 1:
        coded = coded[:3000]
    decoder = ContentDecoder(codings, max_bytes=MOST)

    out = b"".join(
        piece for at in range(0, len(coded), size) for piece in decoder.feed(coded[at : at + size])
    )

    assert out == BODY if size > 1 else BODY.startswith(out)


@pytest.mark.parametrize("codings", [name for name in CODED if name not in ("", "aws-chunked")])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_an_end_before_the_end_is_damage(codings: str, share: float) -> None:
    coded = CODED[codings]

    with pytest.raises(CorruptEncodedBody):
        decode_body(coded[: int(len(coded) * share)], codings, max_bytes=MOST)


def test_streams_that_follow_each_other_are_one_body_and_padding_is_none() -> None:
    assert decode_body(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", max_bytes=9) == b"ab"
    assert decode_body(gzip.compress(b"a") + bytes(600), "gzip", max_bytes=9) == b"a"
    assert decode_body(zstd.compress(b"a") + zstd.compress(b"b"), "zstd", max_bytes=9) == b"ab"


@pytest.mark.parametrize("codings", ["gzip", "zstd", "br", "gzip, zstd"])
def test_an_empty_body_is_empty(codings: str) -> None:
    assert decode_body(b"", codings, max_bytes=9) == b""


@pytest.mark.parametrize("codings", ["gzip", "zstd"])
def test_a_body_that_was_decoded_on_its_way_passes_as_it_is(codings: str) -> None:
    assert decode_body(b"\x89PNG\r\n\x1a\n", codings, max_bytes=99) == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("codings", ["compress", "gzip, dcb", "gzip, gzip, gzip, gzip"])
def test_what_nobody_can_undo_is_refused(codings: str) -> None:
    with pytest.raises(UnsupportedContentCoding):
        ContentDecoder(codings, max_bytes=MOST)


@pytest.mark.parametrize(
    ("codings", "bomb"),
    [
        ("gzip", gzip.compress(bytes(1 << 20)) * 256),
        ("deflate", zlib.compress(bytes(64 << 20))),
        ("br", brotli.compress(bytes(64 << 20), quality=1)),
        ("zstd", zstd.compress(bytes(64 << 20))),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(1 << 20)) * 256)),
        ("gzip, zstd", zstd.compress(gzip.compress(b"koi") + bytes(64 << 20))),
    ],
)
def test_a_bomb_ends_at_the_bound_and_never_fills_memory(codings: str, bomb: bytes) -> None:
    tracemalloc.start()
    decoder = ContentDecoder(codings, max_bytes=MOST)

    lengths: list[int] = []

    with pytest.raises(DecodedBodyTooLarge):
        lengths.extend(len(piece) for piece in decoder.feed(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert max(lengths) <= 2 * MAX_PIECE_BYTES
    assert peak < 4 << 20


@pytest.fixture(scope="module")
def coded_bodies() -> None:
    """Coded outside of the draws, each of which has a deadline."""
    dict(CODED)


@pytest.mark.usefixtures("coded_bodies")
@given(st.sampled_from(sorted(CODED)), st.integers(0, 400), st.binary(min_size=1, max_size=9))
def test_no_damage_raises_anything_else(codings: str, at: int, damage: bytes) -> None:
    coded = CODED[codings]
    hurt = coded[:at] + damage + coded[at + len(damage) : 30_000]
    decoder = ContentDecoder(codings, max_bytes=MOST)

    try:
        for _ in decoder.feed(hurt):
            pass
        decoder.finish()
    except (CorruptEncodedBody, DecodedBodyTooLarge):
        pass
