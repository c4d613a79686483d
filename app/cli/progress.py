"""How far a long copy is, on stderr: a line every few seconds, one line kept up to date on a
terminal."""

import sys
import time

from app.cli.output import print_notice
from app.service.check_backup import format_size

INTERVAL_S, TERMINAL_INTERVAL_S = 5.0, 0.5


class CopyProgress:
    """`whole` is about how many rows there will be, None where nobody knows."""

    def __init__(self, verb: str, whole: int | None = None) -> None:
        self.whole = whole
        self._verb = verb
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._said_s = time.monotonic()

    def report(self, done: int, size_bytes: int) -> None:
        now_s = time.monotonic()
        interval_s = TERMINAL_INTERVAL_S if self._on_terminal else INTERVAL_S
        if now_s - self._said_s >= interval_s:
            self._said_s = now_s
            self._say(f"{self._verb} {done:,} entries, {format_size(size_bytes)}{self._rest(done)}")

    def end(self) -> None:
        if self._on_terminal and self._said_s > self._began_s:
            self._say("")

    def _rest(self, done: int) -> str:
        if self.whole is None or not 0 < done < self.whole:
            return ""
        left_s = (time.monotonic() - self._began_s) / done * (self.whole - done)
        return f", about {left_s:.0f} s left"

    def _say(self, text: str) -> None:
        if self._on_terminal:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
        else:
            print_notice(f"{text} …")
