"""The `Debts` as one small file each: whole or absent after a power cut, gone once paid.

What cannot be read or will never be taken is moved to `damaged/` and named: it must not keep the
debts behind it from being paid, and a person may still make something of it.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from app.adapters.files import no_links, read_bytes
from app.domain.errors import FailureNote, Proof
from app.domain.images import Picture
from app.domain.job import JobState, Outcome, PartResult, PendingImage
from app.domain.journal import Debt, OwedEnd, OwedPart

SUFFIX = ".json"
DAMAGED = "damaged"
UNREADABLE = (OSError, AttributeError, KeyError, TypeError, ValueError)
"""What reading a file can raise that holds no debt: it is empty, cut, foreign, a directory …"""


class FileDebts:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = structlog.get_logger("koi.journal")

    async def owe(self, debt: Debt) -> bool:
        try:
            await asyncio.to_thread(self._keep, debt.name, orjson.dumps(debt))
        except OSError as error:
            self._log.error("debt_not_kept", debt=debt.name, reason=error.strerror)
            return False
        return True

    async def paid(self, debt: Debt) -> None:
        await asyncio.to_thread(self._forget, debt)

    async def open(self) -> Sequence[Debt]:
        try:
            names = [name for name in os.listdir(self._directory) if name.endswith(SUFFIX)]
        except FileNotFoundError:
            return ()
        return await asyncio.to_thread(self._read, names) if names else ()

    async def set_aside(self, debt: Debt, reason: str) -> None:
        await asyncio.to_thread(self._refuse, debt, reason)

    def damaged(self) -> int:
        return len(damaged_debts(self._directory))

    def _keep(self, name: str, body: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f".{name}-{secrets.token_hex(4)}"
        try:
            with open(temporary, "xb", opener=no_links) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            with _locked(self._directory):
                temporary.rename(self._directory / f"{name}{SUFFIX}")
            _sync(self._directory)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _forget(self, debt: Debt) -> None:
        with suppress(OSError), _locked(self._directory):
            if self._lies_there(debt):
                (self._directory / f"{debt.name}{SUFFIX}").unlink(missing_ok=True)

    def _refuse(self, debt: Debt, reason: str) -> None:
        name = f"{debt.name}{SUFFIX}"
        with suppress(OSError), _locked(self._directory):
            if self._lies_there(debt):
                self._set_aside(name, reason)
                return
        self._log.error("debt_refused", debt=name, reason=reason)

    def _lies_there(self, debt: Debt) -> bool:
        """Whether the file still holds this debt: a newer one of its name may say more."""
        name = f"{debt.name}{SUFFIX}"
        try:
            return _named(name, read_bytes(self._directory / name)) == debt
        except UNREADABLE:
            return False

    def _read(self, names: Sequence[str]) -> Sequence[Debt]:
        found = []
        for name in sorted(names):
            try:
                found.append(_named(name, read_bytes(self._directory / name)))
            except FileNotFoundError:
                pass  # a sibling paid it meanwhile
            except UNREADABLE as error:
                self._set_aside(name, f"{type(error).__name__}: {error}")
        return found

    def _set_aside(self, name: str, reason: str) -> None:
        damaged = self._directory / DAMAGED
        place = damaged / f"{name}.{secrets.token_hex(4)}"
        try:
            damaged.mkdir(mode=0o700, exist_ok=True)
            (self._directory / name).rename(place)
        except FileNotFoundError:
            return  # a sibling was quicker
        except OSError as error:
            reason = f"{reason}; it cannot be moved either: {error.strerror}"
        self._log.error("debt_set_aside", debt=name, file=str(place), reason=reason)


@dataclass(frozen=True, slots=True)
class DebtFiles:
    """What lies in a directory of debts: readable ones that wait (the oldest since when, in Unix
    seconds), names that cannot be read, names that were set aside."""

    waiting: int
    oldest_s: float | None
    unreadable: tuple[str, ...]
    damaged: tuple[str, ...]


def look_at_debts(directory: Path) -> DebtFiles:
    """Moves nothing."""
    waiting, unreadable = [], []
    for file in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            _named(file.name, read_bytes(file))
            waiting.append(file.stat().st_mtime)
        except FileNotFoundError:
            pass  # paid meanwhile
        except UNREADABLE:
            unreadable.append(file.name)
    damaged = tuple(file.name for file in damaged_debts(directory))
    return DebtFiles(len(waiting), min(waiting, default=None), tuple(unreadable), damaged)


def damaged_debts(directory: Path) -> list[Path]:
    """What was set aside in this directory of debts."""
    return sorted((directory / DAMAGED).glob("*"))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """No other process replaces or removes a debt meanwhile, as far as the file system can tell."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _named(name: str, body: bytes) -> Debt:
    """Raises one of `UNREADABLE`; under another's name it would be paid and that one forgotten."""
    debt = _debt(orjson.loads(body))
    if f"{debt.name}{SUFFIX}" != name:
        raise ValueError(f"it is called {name} and says {debt.name}")
    return debt


def _debt(row: dict[str, Any]) -> Debt:
    if "outcome" in row:
        return OwedEnd(row["job_id"], _outcome(row["outcome"]))
    result = row["result"] and _result(row["result"])
    request_id = row.get("request_id")
    return OwedPart(row["job_id"], row["part"], row["upstream_id"], result, request_id)


def _outcome(row: dict[str, Any]) -> Outcome:
    return Outcome(
        **{
            **row,
            "state": JobState(row["state"]),
            "pictures": tuple(Picture(**picture) for picture in row["pictures"]),
            "calls": tuple(row.get("calls", ())),
            "pending": _pending(row),
            **_failed(row),
        }
    )


def _result(row: dict[str, Any]) -> PartResult:
    pictures = tuple(Picture(**picture) for picture in row["pictures"])
    return PartResult(**{**row, "pictures": pictures, "pending": _pending(row), **_failed(row)})


def _pending(row: dict[str, Any]) -> tuple[PendingImage, ...]:
    return tuple(PendingImage(**image) for image in row.get("pending", ()))


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "proof": row["proof"] and Proof(row["proof"]),
        "failure": row["failure"] and FailureNote(**row["failure"]),
    }
