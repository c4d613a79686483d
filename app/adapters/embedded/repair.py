"""A store whose log is damaged starts again: with what can be read of it, else empty."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.adapters.embedded.aof import AOF, Readable, copy_readable
from app.adapters.embedded.directory import StoreDirectory, unusable
from app.adapters.embedded.failures import EmbeddedStoreError, StoreNotStarted, StoreUnusable
from app.adapters.embedded.store import EmbeddedStore

PART = f"{AOF}.part"


@dataclass(frozen=True, slots=True)
class Repaired:
    """`aside` holds the damaged log as it was, `readable` how much of it is in the new store."""

    aside: Path
    readable: Readable


def repair(data_dir: Path) -> Repaired | None:
    """Make the store start; None when it does already.

    Raises `EmbeddedStoreError` when somebody runs on it, or when it is not the data that keeps it
    from starting: then everything is as it was.
    """
    try:
        _try(data_dir)
    except StoreNotStarted as failure:
        if _busy(data_dir):
            raise
        return _mend(StoreDirectory.prepare(data_dir), data_dir, failure)
    return None


def _try(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        if not store.owner:
            raise StoreUnusable(
                "A gateway or another command runs on this store, and it answers: there is nothing "
                "to repair. What its books lack, `koi doctor` says."
            )


def _busy(data_dir: Path) -> bool:
    """Whether another process holds the directory, however ill its server is."""
    lock = StoreDirectory.prepare(data_dir).try_lock()
    if lock is None:
        return True
    StoreDirectory.release(lock)
    return False


def _mend(place: StoreDirectory, data_dir: Path, failure: StoreNotStarted) -> Repaired:
    log, part = place.path / AOF, place.path / PART
    if not log.is_dir():
        raise failure  # no data: something else is wrong
    aside = place.path / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        readable = copy_readable(log, part)
        aside.mkdir(mode=0o700)
        log.rename(aside / AOF)
        if readable.kept:
            part.rename(log)
    except OSError as error:
        raise unusable(place.path, error) from error
    try:
        return Repaired(aside, _started(data_dir, log, readable))
    except EmbeddedStoreError:
        shutil.rmtree(log, ignore_errors=True)
        (aside / AOF).rename(log)
        aside.rmdir()
        raise


def _started(data_dir: Path, log: Path, readable: Readable) -> Readable:
    try:
        _try(data_dir)
    except StoreNotStarted:
        if not readable.kept:
            raise
    else:
        return readable
    shutil.rmtree(log)
    _try(data_dir)
    return Readable(0, readable.whole, readable.why or "the server cannot read it")
