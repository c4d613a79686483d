"""Answers in any pieces, hostile ones among them: the HTTP client's reader, without sockets."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.adapters.http.errors import HttpError
from app.adapters.http.response_parser import (
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    ResponseParser,
)

OK = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    status: int | None
    headers: dict[str, str]
    body: bytes
    ending: str
    """`whole`, or the name of the failure."""


def seen(*pieces: bytes, eof: bool = True, bodiless: bool = False) -> Seen:
    parser = ResponseParser()
    parser.expect(bodiless=bodiless)
    ending = "unfinished"
    try:
        for piece in pieces:
            parser.feed(piece)
        if eof:
            parser.feed_eof()
    except HttpError as error:
        ending = type(error).__name__
    if parser.is_complete:
        ending = "whole"
    head = parser.head
    return Seen(
        None if head is None else head.status,
        {} if head is None else dict(head.headers),
        b"".join(parser.pieces),
        ending,
    )


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


STREAMS: dict[str, tuple[bytes, str, bytes]] = {
    "length": (OK + b"Content-Length: 4\r\n\r\nbody", "whole", b"body"),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", "whole", b""),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "whole", b""),
    "304 with a length": (b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "whole", b""),
    "until the end": (OK + b"\r\nbody", "whole", b"body"),
    "until the end, encoded": (OK + b"Transfer-Encoding: gzip\r\n\r\nbody", "whole", b"body"),
    "chunks": (CHUNKED + b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", "whole", b"body"),
    "extensions and trailers": (
        CHUNKED + b'2;a=b;c="d"\r\nbo\r\n2;x\r\ndy\r\n0;z\r\nX-Request-Id: forged\r\nA: b\r\n\r\n',
        "whole",
        b"body",
    ),
    "informational": (
        CONTINUE * 3
        + b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\n1",
        "whole",
        b"1",
    ),
    "informational that closes": (
        b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n1",
        "whole",
        b"1",
    ),
    "line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody", "whole", b"body"),
    "http/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", "whole", b"body"),
    "blank before": (b"\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\nbody", "whole", b"body"),
    "second answer": (
        OK + b"Content-Length: 4\r\n\r\nbody" + OK + b"Content-Length: 5\r\n\r\nsmugg",
        "whole",
        b"body",
    ),
    "garbage behind": (OK + b"Content-Length: 4\r\n\r\nbody\x00garbage", "whole", b"body"),
    "short body": (OK + b"Content-Length: 5\r\n\r\nbody", "BodyTruncated", b"body"),
    "no last chunk": (CHUNKED + b"4\r\nbody\r\n", "BodyTruncated", b"body"),
    "half a chunk": (CHUNKED + b"9\r\nbody", "BodyTruncated", b"body"),
    "half a trailer": (CHUNKED + b"4\r\nbody\r\n0\r\nA: b", "BodyTruncated", b"body"),
    "half a head": (OK + b"Content-Le", "ReadError", b""),
    "nothing": (b"", "ReadError", b""),
    "only informational": (CONTINUE, "ReadError", b""),
    "upgraded": (
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "MalformedResponse",
        b"",
    ),
    "bare 101": (b"HTTP/1.1 101 Switching\r\n\r\n", "MalformedResponse", b""),
    "status 099": (b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", "MalformedResponse", b""),
    "length twice": (
        OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
        "MalformedResponse",
        b"",
    ),
    "length and chunks": (
        OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "MalformedResponse",
        b"",
    ),
    "negative length": (OK + b"Content-Length: -4\r\n\r\nbody", "MalformedResponse", b""),
    "length of a galaxy": (
        OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        "MalformedResponse",
        b"",
    ),
    "chunk of a galaxy": (CHUNKED + b"f" * 17 + b"\r\nbody\r\n", "MalformedResponse", b""),
    "no chunk": (CHUNKED + b"zz\r\nbody\r\n", "MalformedResponse", b""),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "MalformedResponse", b""),
    "http/2": (b"HTTP/2 200\r\n\r\n", "MalformedResponse", b""),
    "html": (b"<html></html>", "MalformedResponse", b""),
    "large field": (OK + b"X: " + b"y" * MAX_HEADER_BYTES + b"\r\n\r\n", "MalformedResponse", b""),
    "many fields": (OK + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n", "MalformedResponse", b""),
    "many trailers": (
        CHUNKED + b"0\r\n" + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        "MalformedResponse",
        b"",
    ),
    "large head": (
        OK + (b"X: " + b"y" * 8000 + b"\r\n") * 17 + b"\r\n",
        "MalformedResponse",
        b"",
    ),
    "100 KB of informational answers and an answer": (
        CONTINUE * 4000 + OK + b"Content-Length: 4\r\n\r\nbody",
        "whole",
        b"body",
    ),
    "a flood of informational answers": (
        CONTINUE * (MAX_HEAD_BYTES // 20 + 1) + OK + b"Content-Length: 4\r\n\r\nbody",
        "MalformedResponse",
        b"",
    ),
    "a flood of informational fields": (
        (b"HTTP/1.1 103 Hints\r\nLink: " + b"x" * 4000 + b"\r\n\r\n") * 33 + OK + b"\r\n",
        "MalformedResponse",
        b"",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", STREAMS)
def test_an_answer_is_the_same_in_one_piece_and_byte_by_byte(row: str) -> None:
    stream, ending, body = STREAMS[row]

    whole = seen(stream)

    assert (whole.ending, whole.body) == (ending, body)
    assert seen(*bytewise(stream)) == whole


@settings(max_examples=100, deadline=None)
@given(row=st.sampled_from(sorted(STREAMS)), cuts=st.lists(st.integers(0, 400), max_size=6))
@example(row="second answer", cuts=[40])
def test_any_division_of_the_same_bytes_gives_the_same_answer(row: str, cuts: list[int]) -> None:
    stream = STREAMS[row][0]
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})

    pieces = [stream[begin:end] for begin, end in pairwise(edges)]

    assert seen(*pieces) == seen(stream)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([OK, CONTINUE, CHUNKED, b"\r\n"])))
def test_any_bytes_are_an_answer_or_a_failure_with_a_name(pieces: list[bytes]) -> None:
    what = seen(*pieces)

    assert what.ending in ("whole", "ReadError", "BodyTruncated", "MalformedResponse")
    assert seen(b"".join(pieces)) == what


@pytest.mark.parametrize(
    ("stream", "kept"),
    [
        (OK + b"Content-Length: 4\r\n\r\nbody", True),
        (CHUNKED + b"4\r\nbody\r\n0\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", False),
        (OK + b"Content-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\n", False),
        (OK + b"Content-Length: 4\r\n\r\nbody\0", False),
        (CHUNKED + b"4\r\nbody\r\n0\r\n\r\nH", False),
        (OK + b"\r\nbody", False),
    ],
)
def test_a_connection_is_kept_only_after_exactly_one_answer(stream: bytes, kept: bool) -> None:
    for pieces in ([stream], bytewise(stream)):
        parser = ResponseParser()
        for piece in pieces:
            parser.feed(piece)
        assert parser.is_reusable is kept


def test_one_reader_reads_answer_after_answer() -> None:
    parser = ResponseParser()

    for number in range(3):
        parser.expect()
        parser.feed(CONTINUE + OK + b"X: %d\r\nContent-Length: 1\r\n\r\n%d" % (number, number))
        assert parser.head is not None
        assert parser.head.headers["x"] == str(number)
        assert list(parser.pieces) == [str(number).encode()]
        assert parser.is_reusable


def test_the_answer_to_a_head_request_has_no_body_and_its_connection_is_not_kept() -> None:
    parser = ResponseParser()
    parser.expect(bodiless=True)

    parser.feed(OK + b"Content-Length: 4\r\n\r\n")

    assert parser.is_complete
    assert not parser.is_reusable


def test_fields_are_joined_and_trailers_are_none() -> None:
    what = seen(
        OK + b"X-A: 1\r\nx-a:  2 \r\nEmpty:\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nX-A: 3\r\nX-B: 4\r\n\r\n"
    )

    assert what.headers == {"x-a": "1, 2", "empty": "", "transfer-encoding": "chunked"}


@pytest.mark.parametrize("opening", [b"0\r\nX: ", b"0\r\n", b"4;a=", b"4\r\nbody\r\n4;a=", b""])
def test_what_frames_a_body_may_not_go_on_for_ever(opening: bytes) -> None:
    """The parser keeps a field until it ends, in memory that grows and time that squares."""
    assert seen(CHUNKED + opening, *[b"0" * 65_536] * 8, eof=False).ending == "MalformedResponse"
