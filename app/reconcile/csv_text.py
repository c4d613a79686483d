"""A bill's bytes as numbered lines of text: UTF-8, UTF-16 and GB18030, as Excel and .NET save them.

Bytes that are no letters become `csv_cells.REPLACEMENT_CHARACTER`, so that a broken line spoils no
other.
"""

import codecs
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO


class NotABill(Exception):
    """The file is not a bill, or cannot be read; the message says why."""


STANDARD_INPUT = ("-", "/dev/stdin")
MAX_LINE_CHARS = 64 * 1024
CHUNK_BYTES = 1 << 20
MAX_PIPED_BYTES = 256 << 20
"""A pipe may never end; some two million lines of a bill."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UTF16_WITHOUT_MARK = (("utf-16-le", slice(1, 4, 2)), ("utf-16-be", slice(0, 4, 2)))
"""Headings begin with ASCII letters or Chinese ones; only the former have a zero in each pair."""


def read_numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """From 1, without their ends. Raises `NotABill` for what is no text, and `OSError`."""
    with _open_seekable(path) as file:
        encoding = _detect_encoding(file, path)
        file.seek(0)
        with TextIOWrapper(file, encoding, errors="replace") as text:
            yield from _numbered(text, path)


@contextmanager
def _open_seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or a copy of a pipe: it is read twice, first for its encoding."""
    with ExitStack() as stack:
        file = stack.enter_context(_open(path))
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            copy = stack.enter_context(tempfile.TemporaryFile())
            _copy(file, copy, path)
            copy.seek(0)
            yield copy
        else:
            yield file


def _copy(file: BinaryIO, copy: BinaryIO, path: Path) -> None:
    left = MAX_PIPED_BYTES
    while piece := file.read(CHUNK_BYTES):
        left -= len(piece)
        if left < 0:
            raise NotABill(
                f"{path} gives more than {MAX_PIPED_BYTES >> 20} MB; save the bill to a file."
            )
        copy.write(piece)


def _open(path: Path) -> BinaryIO:
    """Standard input is taken as it is: opened by its name, it is refused to everybody but the user
    who opened it first, who need not be the one that the command works as."""
    if str(path) in STANDARD_INPUT:
        return os.fdopen(os.dup(0), "rb")
    return path.open("rb")


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while text := file.readline(MAX_LINE_CHARS):
        number += 1
        if len(text) == MAX_LINE_CHARS:
            raise NotABill(f"{path} has a line of {MAX_LINE_CHARS} characters; is it a CSV file?")
        yield number, text.rstrip("\r\n")


def _detect_encoding(file: BinaryIO, path: Path) -> str:
    head = file.read(4)
    for sign, name in BYTE_ORDER_MARKS:
        if head.startswith(sign):
            return name
    for name, zeros in UTF16_WITHOUT_MARK:
        if len(head) == 4 and head[zeros] == b"\0\0":
            return name
    if b"\0" in head:
        raise NotABill(f"{path} is not a text; save it as CSV in UTF-8.")
    # GB18030 takes almost any bytes for text, so that UTF-8 is asked first.
    whole = [name for name in ("utf-8", "gb18030") if _decodes(file, name)]
    return whole[0] if whole else "utf-8"


def _decodes(file: BinaryIO, name: str) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(name)()
    try:
        while piece := file.read(CHUNK_BYTES):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
