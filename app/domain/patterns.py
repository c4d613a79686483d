"""Name patterns with `*`, as catalogs use them for model names: anchored, case-sensitive."""

import re
from functools import lru_cache

PATTERN_SYNTAX = re.compile(r"[A-Za-z0-9._:/@+*-]{1,100}", re.ASCII)
"""What a pattern may be written with; `*` stands for any number of visible ASCII characters."""


def pattern_matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


def patterns_overlap(a: str, b: str) -> bool:
    """Whether some name matches both patterns.

    For each letter of `a`, `reached` holds the positions of `b` that can be matched so far, as in
    an edit distance, so that patterns with many stars take no longer than others.
    """
    reached = _past_stars({0}, b)
    for letter in a:
        if letter == "*":
            reached = set(range(min(reached, default=len(b) + 1), len(b) + 1))
        else:
            kept = {at for at in reached if at < len(b) and b[at] == "*"}
            moved = {at + 1 for at in reached if at < len(b) and b[at] == letter}
            reached = _past_stars(kept | moved, b)
    return len(b) in reached


def _past_stars(reached: set[int], b: str) -> set[int]:
    """The positions, and those behind stars at them: a star may also stand for nothing."""
    found = set(reached)
    for at in sorted(reached):
        while at < len(b) and b[at] == "*":
            at += 1
            found.add(at)
    return found


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("[\x21-\x7e]*".join(map(re.escape, pattern.split("*"))))
