"""Repair a store with a damaged log: it starts with what can be read of the log, else empty."""

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.adapters.embedded.aof import AOF_DIRECTORY, RecoveredLog, copy_readable_log
from app.adapters.embedded.directory import StoreDirectory, store_unusable
from app.adapters.embedded.errors import (
    EmbeddedStoreError,
    EngineMismatch,
    StampDamaged,
    StoreNotStarted,
    StoreUnusable,
)
from app.adapters.embedded.store import EmbeddedStore

PARTIAL_AOF = f"{AOF_DIRECTORY}.part"


@dataclass(frozen=True, slots=True)
class RepairResult:
    """`aside` holds the damaged log as it was, `readable` how much of it is in the new store."""

    aside: Path
    readable: RecoveredLog


def repair(data_dir: Path, *, from_journal: bool = False) -> RepairResult | None:
    """Make the store start; None when it starts as it is. `from_journal`: empty, when nothing of
    its data may be read here.

    Raises `EmbeddedStoreError`, and changes nothing, when another process uses the store, or when
    something else than its data keeps it from starting.
    """
    try:
        _check_starts(data_dir)
    except (StoreNotStarted, EngineMismatch, StampDamaged) as failure:
        unreadable = not isinstance(failure, StoreNotStarted)
        if _is_locked(data_dir) or (unreadable and not from_journal):
            raise
        directory = StoreDirectory.prepare(data_dir)
        if unreadable or not (directory.path / AOF_DIRECTORY).is_dir():
            return _begin_anew(directory, data_dir, failure)
        return _recover(directory, data_dir)
    return None


def _check_starts(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        if not store.owner:
            raise StoreUnusable(
                "A gateway or another command runs on this store, and it answers: there is nothing "
                "to repair. `koi doctor` says what its ledger lacks."
            )


def _is_locked(data_dir: Path) -> bool:
    """Whether another process holds the directory, even if its server does not answer."""
    lock = StoreDirectory.prepare(data_dir).try_lock(create=True)
    if lock is None:
        return True
    StoreDirectory.release(lock)
    return False


def _begin_anew(
    directory: StoreDirectory, data_dir: Path, failure: EmbeddedStoreError
) -> RepairResult:
    """Move aside what cannot be read here, and start an empty store."""
    log = directory.path / AOF_DIRECTORY
    if not os.path.lexists(log):
        raise failure  # there is no data, so something else is wrong
    whole = sum(file.stat().st_size for file in log.glob("*")) if log.is_dir() else 0
    aside = _make_aside(directory)
    moved = [path for path in (log, directory.stamp) if os.path.lexists(path)]
    try:
        for path in moved:
            path.rename(aside / path.name)
        _check_starts(data_dir)
    except (OSError, EmbeddedStoreError) as error:
        shutil.rmtree(log, ignore_errors=True)
        for path in moved:
            (aside / path.name).rename(path)
        aside.rmdir()
        if isinstance(error, OSError):
            raise store_unusable(directory.path, error) from error
        raise
    return RepairResult(aside, RecoveredLog(0, whole, "it cannot be read here"))


def _make_aside(directory: StoreDirectory) -> Path:
    aside = directory.path / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        aside.mkdir(mode=0o700)
    except OSError as error:
        raise store_unusable(directory.path, error) from error
    return aside


def _recover(directory: StoreDirectory, data_dir: Path) -> RepairResult:
    log, part = directory.path / AOF_DIRECTORY, directory.path / PARTIAL_AOF
    try:
        shutil.rmtree(part, ignore_errors=True)
        readable = copy_readable_log(log, part)
        aside = _make_aside(directory)
        log.rename(aside / AOF_DIRECTORY)
        if readable.kept:
            part.rename(log)
    except OSError as error:
        raise store_unusable(directory.path, error) from error
    try:
        return RepairResult(aside, _start_recovered(data_dir, log, readable))
    except EmbeddedStoreError:
        shutil.rmtree(log, ignore_errors=True)
        (aside / AOF_DIRECTORY).rename(log)
        aside.rmdir()
        raise


def _start_recovered(data_dir: Path, log: Path, readable: RecoveredLog) -> RecoveredLog:
    try:
        _check_starts(data_dir)
    except StoreNotStarted:
        if not readable.kept:
            raise
    else:
        return readable
    shutil.rmtree(log)
    _check_starts(data_dir)
    return RecoveredLog(0, readable.whole, readable.why or "the server cannot read it")
