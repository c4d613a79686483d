"""A bill's bytes as numbered lines of text: UTF-8, UTF-16 and GB18030, as Excel and .NET save them.

Bytes that are no letters become `bill_cells.LOST_LETTER`, so that one broken line spoils no other.
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

from app.cli.failure import misused

STANDARD_INPUT = ("-", "/dev/stdin")
LONGEST_LINE = 64 * 1024
PIECE = 1 << 20
MOST_PIPED = 256 << 20
"""A pipe may never end; some two million lines of a bill."""
SIGNS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNSIGNED_UTF16 = (("utf-16-le", slice(1, 4, 2)), ("utf-16-be", slice(0, 4, 2)))
"""Headings begin with ASCII letters or Chinese ones; only the former have a zero in each pair."""


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """From 1, without their ends. Raises `CommandFailed` (2) for what is no text, and `OSError`."""
    with _seekable(path) as file:
        encoding = _encoding(file, path)
        file.seek(0)
        with TextIOWrapper(file, encoding, errors="replace") as text:
            yield from _numbered(text, path)


@contextmanager
def _seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or a copy of a pipe: it is read twice, first for its encoding."""
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            copy = stack.enter_context(tempfile.TemporaryFile())
            _copied(file, copy, path)
            copy.seek(0)
            yield copy
        else:
            yield file


def _copied(file: BinaryIO, copy: BinaryIO, path: Path) -> None:
    left = MOST_PIPED
    while piece := file.read(PIECE):
        left -= len(piece)
        if left < 0:
            raise misused(f"{path} gives more than {MOST_PIPED >> 20} MB; save the bill to a file.")
        copy.write(piece)


def _opened(path: Path) -> BinaryIO:
    """Standard input is taken as it is: opened by its name, it is refused to everybody but the user
    who opened it first, who need not be the one that the command works as."""
    if str(path) in STANDARD_INPUT:
        return os.fdopen(os.dup(0), "rb")
    return path.open("rb")


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        if len(text) == LONGEST_LINE:
            raise misused(f"{path} has a line of {LONGEST_LINE} characters; is it a CSV file?")
        yield number, text.rstrip("\r\n")


def _encoding(file: BinaryIO, path: Path) -> str:
    head = file.read(4)
    for sign, name in SIGNS:
        if head.startswith(sign):
            return name
    for name, zeros in UNSIGNED_UTF16:
        if len(head) == 4 and head[zeros] == b"\0\0":
            return name
    if b"\0" in head:
        raise misused(f"{path} is not a text; save it as CSV in UTF-8.")
    # GB18030 takes almost any bytes for text, so that UTF-8 is asked first.
    whole = [name for name in ("utf-8", "gb18030") if _reads(file, name)]
    return whole[0] if whole else "utf-8"


def _reads(file: BinaryIO, name: str) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(name)()
    try:
        while piece := file.read(PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
