"""Repair a store with a damaged log: it starts with what can be read of the log, else empty."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.adapters.embedded.aof import AOF_DIRECTORY, RecoveredLog, copy_readable_log
from app.adapters.embedded.directory import StoreDirectory, store_unusable
from app.adapters.embedded.errors import EmbeddedStoreError, StoreNotStarted, StoreUnusable
from app.adapters.embedded.store import EmbeddedStore

PARTIAL_AOF = f"{AOF_DIRECTORY}.part"


@dataclass(frozen=True, slots=True)
class RepairResult:
    """`aside` holds the damaged log as it was, `readable` how much of it is in the new store."""

    aside: Path
    readable: RecoveredLog


def repair(data_dir: Path) -> RepairResult | None:
    """Make the store start; None when it starts as it is.

    Raises `EmbeddedStoreError`, and changes nothing, when another process uses the store, or when
    something else than its data keeps it from starting.
    """
    try:
        _check_starts(data_dir)
    except StoreNotStarted as failure:
        if _is_locked(data_dir):
            raise
        return _recover(StoreDirectory.prepare(data_dir), data_dir, failure)
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
    lock = StoreDirectory.prepare(data_dir).try_lock()
    if lock is None:
        return True
    StoreDirectory.release(lock)
    return False


def _recover(directory: StoreDirectory, data_dir: Path, failure: StoreNotStarted) -> RepairResult:
    log, part = directory.path / AOF_DIRECTORY, directory.path / PARTIAL_AOF
    if not log.is_dir():
        raise failure  # there is no data, so something else is wrong
    aside = directory.path / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        readable = copy_readable_log(log, part)
        aside.mkdir(mode=0o700)
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
