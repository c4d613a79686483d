"""How one setting is declared and read: its type, its bounds, and the sentence for a bad value.

A declaration is a field of a dataclass. This replaces pydantic-settings, which takes longer to load
than all of Koi's commands take to run.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

TRUE_WORDS = frozenset({"1", "on", "t", "true", "y", "yes"})
FALSE_WORDS = frozenset({"0", "off", "f", "false", "n", "no"})
WHOLE_NUMBER = re.compile(r"([+-]?[0-9][0-9_]*)(?:\.0+)?")
BOUNDS = "koi_bounds"


class Secret:
    """Text that no log line, traceback or representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be; None is no bound."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None

    def check(self, number: float) -> None:
        """Raises `RuleBroken`."""
        if self.gt is not None and number <= self.gt:
            raise RuleBroken(f"must be more than {self.gt:g}")
        if self.ge is not None and number < self.ge:
            raise RuleBroken(f"must be {self.ge:g} or more")
        if self.le is not None and number > self.le:
            raise RuleBroken(f"must be {self.le:g} or less")


@dataclass(frozen=True, slots=True)
class Before:
    """In an annotation: a function that sees the text before it is read."""

    function: Callable[[object], object]


class RuleBroken(Exception):
    """What the value of a setting must be, to be said after its name."""


def setting(
    default: Any, *, gt: float | None = None, ge: float | None = None, le: float | None = None
) -> Any:
    """A number with bounds, as a field of a dataclass."""
    return field(default=default, metadata={BOUNDS: Bounds(gt, ge, le)})


def read_setting(declared: "Field[Any]", value: object) -> Any:
    """The value as its type. Raises `RuleBroken`, or `ValueError` from a function of the
    annotation."""
    kind, steps = declared.type, [declared.metadata.get(BOUNDS)]
    while get_origin(kind) is Annotated:
        kind, *others = get_args(kind)
        steps += others
    if isinstance(kind, UnionType):
        if value is None:
            return None
        [kind] = [option for option in get_args(kind) if option is not type(None)]
    for step in steps:
        value = step.function(value) if isinstance(step, Before) else value
    read = (
        _read_literal(value, get_args(kind)) if get_origin(kind) is Literal else _read(kind, value)
    )
    for step in steps:
        if isinstance(step, Bounds):
            step.check(read)
        elif step is not None and not isinstance(step, Before):
            read = step(read)
    return read


def _read(kind: Any, value: object) -> Any:
    if isinstance(value, kind):
        return value
    if issubclass(kind, Enum):
        return kind(_read_literal(value, [member.value for member in kind]))
    return READERS[kind](str(value))


def _read_literal(value: object, options: "list[Any] | tuple[Any, ...]") -> Any:
    if value not in options:
        raise RuleBroken(f"must be one of {', '.join(options[:-1])} or {options[-1]}")
    return value


def _read_whole_number(text: str) -> int:
    match = WHOLE_NUMBER.fullmatch(text.strip())
    if match is None:
        raise RuleBroken("must be a whole number")
    return int(match[1])


def _read_number(text: str) -> float:
    try:
        number = float(text.encode("ascii"))
    except ValueError:
        raise RuleBroken("must be a number") from None
    if not math.isfinite(number):
        raise RuleBroken("must be a finite number")
    return number


def _read_truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise RuleBroken("must be one of true or false")
    return word in TRUE_WORDS


READERS: Mapping[type, Callable[[str], Any]] = {
    int: _read_whole_number,
    float: _read_number,
    bool: _read_truth,
    str: str,
    Path: Path,
    Secret: Secret,
}
