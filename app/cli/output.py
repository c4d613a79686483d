"""What commands print: lines, aligned tables, JSON, CSV, and notices."""

import errno
import json
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from app.cli.errors import CommandFailed
from app.domain.calendar import format_time as format_time
from app.domain.money import money_record as money_record

JsonRecord = Mapping[str, Any]
OUTPUT_LOST_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def print_line(line: str = "") -> None:
    write_output(f"{line}\n")


def write_output(text: str, *, flush: bool = True) -> None:
    """A part of the answer. Raises `CommandFailed` when it cannot be written, and
    `BrokenPipeError` when nobody reads on."""
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(explain_lost_output(error)) from None


def explain_lost_output(error: OSError) -> str:
    return (
        f"Standard output cannot be written ({error.strerror}), so this answer is incomplete; "
        "make room there and ask again."
    )


def print_notice(line: str) -> None:
    """Something for the person, not for a script: goes to stderr, and is lost if that is full."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def close_output() -> None:
    """Flush before the end. Where that fails (a full disk), the interpreter must not try again: it
    would change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(document: Any) -> None:
    print_line(json.dumps(document, ensure_ascii=False, indent=2))


def print_json_line(document: Any) -> None:
    write_output(
        json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", flush=False
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns two spaces apart; numbers to the right. A terminal has it wrapped to its width; for a
    script each row stays one line, without colour, and rich is not loaded."""
    cells = [[format_cell(value) for value in row] for row in rows]
    rightward = [any(isinstance(row[at], int) for row in rows) for at in range(len(headings))]
    if sys.stdout.isatty():
        write_output(_render_for_terminal(headings, cells, rightward))
        return
    widths = [max(map(_display_width, column)) for column in zip(headings, *cells, strict=True)]
    for line in ([heading.upper() for heading in headings], *cells):
        padded = [
            _pad(text, width, right)
            for text, width, right in zip(line, widths, rightward, strict=True)
        ]
        print_line("  ".join(padded).rstrip())


def _render_for_terminal(
    headings: Sequence[str], cells: Sequence[Sequence[str]], rightward: Sequence[bool]
) -> str:
    from rich.console import Console  # noqa: PLC0415 - slow to load, and never for a script
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, (heading, right) in enumerate(zip(headings, rightward, strict=True)):
        # The first column names the row, to be copied in one piece.
        justify: Literal["right", "left"] = "right" if right else "left"
        table.add_column(heading.upper(), justify=justify, overflow="fold", no_wrap=place == 0)
    for row in cells:
        table.add_row(*map(Text, row))  # as text: a name is no markup
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def print_fields(fields: Mapping[str, object]) -> None:
    width = max(map(len, fields))
    for name, value in fields.items():
        print_line(f"{name:<{width}}  {format_cell(value)}")


@contextmanager
def progress_notice(activity: str, after_s: float = 1.0) -> Iterator[None]:
    """Say what is going on when it takes longer than `after_s`."""
    timer = threading.Timer(after_s, print_notice, [f"{activity} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def format_cell(value: object) -> str:
    """As one line without control characters: names and notes are typed by people."""
    text = "-" if value is None or value == "" else str(value)
    return text if text.isprintable() else "".join(map(_escape_unprintable, text))


def _escape_unprintable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def _display_width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, right: bool) -> str:
    gap = " " * (width - _display_width(text))
    return gap + text if right else text + gap
