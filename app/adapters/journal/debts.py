"""The `Debts` as one small file each: whole or absent after a power cut, gone once paid."""

import asyncio
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import structlog

from app.domain.errors import FailureNote, Proof
from app.domain.images import Picture
from app.domain.job import JobState, Outcome, PartResult, PendingImage
from app.domain.journal import Debt, OwedEnd, OwedPart

SUFFIX = ".json"


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
        with suppress(OSError):
            (self._directory / f"{debt.name}{SUFFIX}").unlink(missing_ok=True)

    async def open(self) -> Sequence[Debt]:
        try:
            names = [name for name in os.listdir(self._directory) if name.endswith(SUFFIX)]
        except FileNotFoundError:
            return ()
        return await asyncio.to_thread(self._read, names) if names else ()

    def _keep(self, name: str, body: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f".{name}-{secrets.token_hex(4)}"
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._directory / f"{name}{SUFFIX}")
            _sync(self._directory)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _read(self, names: Sequence[str]) -> Sequence[Debt]:
        found = []
        for name in sorted(names):
            # A sibling may have paid it meanwhile.
            with suppress(FileNotFoundError):
                found.append(_debt(orjson.loads((self._directory / name).read_bytes())))
        return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
