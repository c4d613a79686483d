"""The `Outbox` with one small file for each message, deleted once the store has it.

A file that cannot be read, or that the store refuses for good, is moved to `damaged/` and named in
the log: it must not hold up the messages behind it, and a person may still be able to use it.
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

from app.adapters.files import DIRECTORY_FLAGS, read_bytes, replace_file
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture
from app.domain.job import JobState, Outcome, PartResult, PendingImage
from app.domain.journal import OutboxMessage, OutboxOutcome, OutboxPart

SUFFIX = ".json"
DEAD_LETTER_DIRECTORY = "damaged"
DECODE_ERRORS = (OSError, AttributeError, KeyError, TypeError, ValueError)
"""What reading a file raises when it holds no message: empty, cut short, foreign, a directory …"""


class FileOutbox:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = structlog.get_logger("koi.journal")

    async def enqueue(self, message: OutboxMessage) -> bool:
        try:
            await asyncio.to_thread(self._write_file, message.name, orjson.dumps(message))
        except OSError as error:
            self._log.error("outbox_write_failed", message_name=message.name, reason=error.strerror)
            return False
        return True

    async def ack(self, message: OutboxMessage) -> None:
        await asyncio.to_thread(self._delete_if_same, message)

    async def pending(self) -> Sequence[OutboxMessage]:
        try:
            names = [name for name in os.listdir(self._directory) if name.endswith(SUFFIX)]
        except FileNotFoundError:
            return ()
        return await asyncio.to_thread(self._read_files, names) if names else ()

    async def dead_letter(self, message: OutboxMessage, reason: str) -> None:
        await asyncio.to_thread(self._dead_letter_if_same, message, reason)

    def count_dead_letters(self) -> int:
        return len(list_dead_letters(self._directory))

    def _write_file(self, name: str, body: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{name}{SUFFIX}"
        replace_file(path, body, lock=_lock_directory(self._directory))

    def _delete_if_same(self, message: OutboxMessage) -> None:
        with suppress(OSError), _lock_directory(self._directory):
            if self._is_current(message):
                (self._directory / f"{message.name}{SUFFIX}").unlink(missing_ok=True)

    def _dead_letter_if_same(self, message: OutboxMessage, reason: str) -> None:
        name = f"{message.name}{SUFFIX}"
        with suppress(OSError), _lock_directory(self._directory):
            if self._is_current(message):
                self._move_to_dead_letters(name, reason)
                return
        self._log.error("outbox_message_refused", message_name=name, reason=reason)

    def _is_current(self, message: OutboxMessage) -> bool:
        """Whether the file still holds this message: a newer one with its name may hold more."""
        name = f"{message.name}{SUFFIX}"
        try:
            return _decode_file(name, read_bytes(self._directory / name)) == message
        except DECODE_ERRORS:
            return False

    def _read_files(self, names: Sequence[str]) -> Sequence[OutboxMessage]:
        found = []
        for name in sorted(names):
            try:
                found.append(_decode_file(name, read_bytes(self._directory / name)))
            except FileNotFoundError:
                pass  # another process delivered it meanwhile
            except DECODE_ERRORS as error:
                self._move_to_dead_letters(name, f"{type(error).__name__}: {error}")
        return found

    def _move_to_dead_letters(self, name: str, reason: str) -> None:
        damaged = self._directory / DEAD_LETTER_DIRECTORY
        place = damaged / f"{name}.{secrets.token_hex(4)}"
        try:
            damaged.mkdir(mode=0o700, exist_ok=True)
            (self._directory / name).rename(place)
        except FileNotFoundError:
            return  # another process moved it
        except OSError as error:
            reason = f"{reason}; it cannot be moved either: {error.strerror}"
        self._log.error(
            "outbox_message_set_aside", message_name=name, file=str(place), reason=reason
        )


@dataclass(frozen=True, slots=True)
class OutboxFiles:
    """What an outbox directory holds: how many readable messages wait, since when the oldest one
    does (Unix seconds), the names of unreadable files, the names of files in `damaged/`."""

    waiting: int
    oldest_s: float | None
    unreadable: tuple[str, ...]
    damaged: tuple[str, ...]


def inspect_outbox(directory: Path) -> OutboxFiles:
    """Look at an outbox directory; moves nothing."""
    waiting, unreadable = [], []
    for file in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            _decode_file(file.name, read_bytes(file))
            waiting.append(file.stat().st_mtime)
        except FileNotFoundError:
            pass  # delivered meanwhile
        except DECODE_ERRORS:
            unreadable.append(file.name)
    damaged = tuple(file.name for file in list_dead_letters(directory))
    return OutboxFiles(len(waiting), min(waiting, default=None), tuple(unreadable), damaged)


def list_dead_letters(directory: Path) -> list[Path]:
    """The files in `damaged/` of this outbox directory."""
    return sorted((directory / DEAD_LETTER_DIRECTORY).glob("*"))


@contextmanager
def _lock_directory(directory: Path) -> Iterator[None]:
    """Keep other processes from replacing or removing a message, if the file system has locks."""
    descriptor = os.open(directory, DIRECTORY_FLAGS)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _decode_file(name: str, body: bytes) -> OutboxMessage:
    """Raises one of `DECODE_ERRORS`, also when the name is another message's: delivering it would
    delete that other one."""
    message = _decode_message(orjson.loads(body))
    if f"{message.name}{SUFFIX}" != name:
        raise ValueError(f"the file is called {name} and holds {message.name}")
    return message


def _decode_message(row: dict[str, Any]) -> OutboxMessage:
    if "outcome" in row:
        return OutboxOutcome(row["job_id"], _decode_outcome(row["outcome"]))
    result = row["result"] and _decode_result(row["result"])
    request_id = row.get("request_id")
    return OutboxPart(row["job_id"], row["part"], row["upstream_id"], result, request_id)


def _decode_outcome(row: dict[str, Any]) -> Outcome:
    return Outcome(
        **{
            **row,
            "state": JobState(row["state"]),
            "pictures": tuple(Picture(**picture) for picture in row["pictures"]),
            "calls": tuple(row.get("calls", ())),
            "pending": _decode_pending(row),
            **_decode_failure(row),
        }
    )


def _decode_result(row: dict[str, Any]) -> PartResult:
    pictures = tuple(Picture(**picture) for picture in row["pictures"])
    return PartResult(
        **{**row, "pictures": pictures, "pending": _decode_pending(row), **_decode_failure(row)}
    )


def _decode_pending(row: dict[str, Any]) -> tuple[PendingImage, ...]:
    return tuple(PendingImage(**image) for image in row.get("pending", ()))


def _decode_failure(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "proof": row["proof"] and BillingEvidence(row["proof"]),
        "failure": row["failure"] and FailureNote(**row["failure"]),
    }
