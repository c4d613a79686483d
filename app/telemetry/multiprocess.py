"""Counters, gauges and histograms whose values live in memory or in a slot's shared files.

prometheus_client chooses between the two once per interpreter, by an environment variable, and
names its files by process id. These three classes choose per instance and name them by slot; the
file format and the merging of files stay the library's.

Numbered places for worker processes, so that a replaced worker counts on where the dead one was.

Metric files named by process id pile up and pull gauges of the dead along; files named by slot do
neither (ecosystem study, section 4.3).
"""

import fcntl
import itertools
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

INITIAL_FILE_BYTES = 1 << 20


class WorkerFiles:
    """The value files of one slot, one for each kind of series."""

    def __init__(self, directory: Path, worker_number: int) -> None:
        self._directory = directory
        self._worker_number = worker_number
        self._open: dict[str, MmapedDict] = {}
        self.lock = Lock()

    def open_file(self, kind: str) -> MmapedDict:
        if kind not in self._open:
            path = self._directory / f"{kind}_{self._worker_number}.db"
            if not path.exists():
                self._create_file(path)
            self._open[kind] = MmapedDict(str(path))  # type: ignore[no-untyped-call]
        return self._open[kind]

    def close(self) -> None:
        for file in self._open.values():
            file.close()  # type: ignore[no-untyped-call]
        self._open.clear()

    def _create_file(self, path: Path) -> None:
        """Real zeros under the final name at once: a scrape must not read an empty file, and a
        full disk must fail here and not as SIGBUS in the middle of a request."""
        draft = path.with_suffix(".new")
        draft.write_bytes(bytes(INITIAL_FILE_BYTES))
        draft.rename(path)


class SharedValue:
    """One sample in a slot's file; it survives the death of the process that wrote it."""

    _multiprocess = True

    def __init__(self, files: WorkerFiles, kind: str, key: str) -> None:
        self._lock = files.lock
        self._file = files.open_file(kind)
        self._key = key
        with self._lock:
            self._value, self._timestamp = self._file.read_value(key)  # type: ignore[no-untyped-call]

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount
            self._file.write_value(self._key, self._value, 0.0)  # type: ignore[no-untyped-call]

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._value = value
            self._file.write_value(self._key, value, timestamp or 0.0)  # type: ignore[no-untyped-call]

    def get(self) -> float:
        return float(self._value)

    def get_exemplar(self) -> None:
        return None


class _FileBackedMetric:
    """Hands the files of the parent down to every labelled child."""

    _kwargs: dict[str, Any]
    _name: str
    _documentation: str
    _labelnames: tuple[str, ...]
    _labelvalues: tuple[str, ...]

    def __init__(self, *args: Any, files: WorkerFiles | None = None, **kwargs: Any) -> None:
        self._files = files
        super().__init__(*args, **kwargs)
        self._kwargs["files"] = files

    def _open_value(
        self, files: WorkerFiles, kind: str, suffix: str = "", le: float | None = None
    ) -> SharedValue:
        names, words = self._labelnames, self._labelvalues
        if le is not None:
            names, words = (*names, "le"), (*words, floatToGoString(le))  # type: ignore[no-untyped-call]
        name = self._name + suffix
        key = mmap_key(self._name, name, list(names), list(words), self._documentation)
        return SharedValue(files, kind, key)


class FileBackedCounter(_FileBackedMetric, Counter):
    def _metric_init(self) -> None:
        super()._metric_init()
        if self._files is not None:
            self._value = self._open_value(self._files, "counter", "_total")


class FileBackedGauge(_FileBackedMetric, Gauge):
    def _metric_init(self) -> None:
        super()._metric_init()
        if self._files is not None:
            self._value = self._open_value(self._files, f"gauge_{self._multiprocess_mode}")


class FileBackedHistogram(_FileBackedMetric, Histogram):
    def _metric_init(self) -> None:
        if self._files is None:
            super()._metric_init()
            return
        self._created = time.time()
        self._sum = self._open_value(self._files, "histogram", "_sum")
        self._buckets = [
            self._open_value(self._files, "histogram", "_bucket", le) for le in self._upper_bounds
        ]


def claim_worker_number(directory: Path) -> int:
    """Take the lowest free slot of a directory for as long as this process lives.

    The lock belongs to an open file that is never closed on purpose: the kernel frees the slot
    when the process dies, however it dies.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for worker_number in itertools.count():
        if _try_lock(directory / f"slot-{worker_number}.lock") is not None:
            return worker_number
    raise AssertionError("unreachable")


def clear_stale_files(directory: Path) -> None:
    """Forget the counts of an earlier run. Called by the supervisor before its first worker.

    Files of a slot that a living process holds stay: two gateways that were given one directory
    by mistake must not wipe each other's counters.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for lock in directory.glob("slot-*.lock"):
        held = _try_lock(lock)
        if held is None:
            continue
        for stale in directory.glob(f"*_{lock.stem.removeprefix('slot-')}.db"):
            stale.unlink(missing_ok=True)
        os.close(held)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
