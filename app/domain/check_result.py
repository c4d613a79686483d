"""The result of one check of `koi doctor`, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`fix` says what to do; it is empty where all is well."""

    check: str
    status: CheckStatus
    text: str
    fix: str = ""


def ok(check: str, text: str) -> CheckResult:
    return CheckResult(check, CheckStatus.OK, text)


def warn(check: str, text: str, fix: str) -> CheckResult:
    return CheckResult(check, CheckStatus.WARN, text, fix)


def fail(check: str, text: str, fix: str) -> CheckResult:
    return CheckResult(check, CheckStatus.FAIL, text, fix)
