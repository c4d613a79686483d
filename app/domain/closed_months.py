"""Months whose entries left the store for files beside the journals (decision 58)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import LedgerUnavailable

EntryRow = tuple[str, Sequence[str]]
"""An entry's id, and field, value, field, value … as stored."""


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """One month, UTC, by the time its entries were written: how many, what they add up to, and the
    SHA-256 of all of them in order. Times are Unix milliseconds, `ends_ms` exclusive."""

    label: str
    starts_ms: int
    ends_ms: int
    entries: int
    images: int
    micros: int
    surplus: int
    digest: str

    @property
    def file_name(self) -> str:
        """Another content has another name: no file ever replaces a different one."""
        return f"{self.label}.month-{self.digest[:16]}.jsonl.gz"


class MonthUnreadable(LedgerUnavailable):
    """The entries of a closed month cannot be read here; `where` tells an operator who can."""

    def __init__(self, label: str, where: str) -> None:
        super().__init__(
            f"The entries of {label} left the store, and cannot be read by this gateway. Nothing "
            "was changed."
        )
        self.where = where


class MonthsMoved(LedgerUnavailable):
    """A month left the store while its entries were read."""

    def __init__(self) -> None:
        super().__init__(
            "A closed month was moved out of the store while its entries were read, so not all may "
            "have been seen. Nothing was changed; repeat this."
        )


class MonthArchive(Protocol):
    """The files of closed months on this machine."""

    def holds(self, month: ClosedMonth) -> bool: ...

    def pages(self, month: ClosedMonth, *, newest_first: bool = False) -> Iterator[list[EntryRow]]:
        """All entries of a month in order, or the newest ones first. Blocks. Raises `OSError`, also
        for a file that is damaged, at its end at the latest."""


class NoArchive:
    """Of a process without a journal."""

    def holds(self, month: ClosedMonth) -> bool:
        return month.entries == 0

    def pages(self, month: ClosedMonth, *, newest_first: bool = False) -> Iterator[list[EntryRow]]:  # noqa: ARG002 - the port names it
        if month.entries:
            raise FileNotFoundError(month.file_name)
        return iter(())
