"""What a check of the doctor found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` says what to do; it is empty where all is well."""

    check: str
    mark: Mark
    text: str
    mend: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, Mark.OK, text)


def warn(check: str, text: str, mend: str) -> Finding:
    return Finding(check, Mark.WARN, text, mend)


def fail(check: str, text: str, mend: str) -> Finding:
    return Finding(check, Mark.FAIL, text, mend)
