"""The latest log lines of this process, for the operator who looks at one job."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

MAX_LINES = 4000
MAX_LINE_CHARS = 2000
MAX_FOUND = 100
_LINES: deque[str] = deque(maxlen=MAX_LINES)


def keep(line: str) -> None:
    """Remember a line as it is written, shortened where it is long. Lines hold no secret and no
    prompt, here as in the log."""
    _LINES.append(line if len(line) <= MAX_LINE_CHARS else line[:MAX_LINE_CHARS])


def lines_with(word: str) -> Sequence[str]:
    """The latest `MAX_FOUND` of them that hold the word, the oldest first."""
    # A copy, because other threads log meanwhile.
    newest = (line for line in reversed(tuple(_LINES)) if word in line)
    return [*islice(newest, MAX_FOUND)][::-1]
