"""Counters, gauges and histograms whose values live in memory or in a slot's shared files.

prometheus_client chooses between the two once per interpreter, by an environment variable, and
names its files by process id. These three classes choose per instance and name them by slot; the
file format and the merging of files stay the library's.
"""

import time
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

ROOM = 1 << 20


class SlotFiles:
    """The value files of one slot, one for each kind of series."""

    def __init__(self, directory: Path, slot: int) -> None:
        self._directory = directory
        self._slot = slot
        self._open: dict[str, MmapedDict] = {}
        self.lock = Lock()

    def of(self, kind: str) -> MmapedDict:
        if kind not in self._open:
            path = self._directory / f"{kind}_{self._slot}.db"
            if not path.exists():
                self._lay_out(path)
            self._open[kind] = MmapedDict(str(path))  # type: ignore[no-untyped-call]
        return self._open[kind]

    def close(self) -> None:
        for file in self._open.values():
            file.close()  # type: ignore[no-untyped-call]
        self._open.clear()

    def _lay_out(self, path: Path) -> None:
        """Real zeros under the final name at once: a scrape must not read an empty file, and a
        full disk must fail here and not as SIGBUS in the middle of a request."""
        draft = path.with_suffix(".new")
        draft.write_bytes(bytes(ROOM))
        draft.rename(path)


class SharedNumber:
    """One sample in a slot's file; it survives the death of the process that wrote it."""

    _multiprocess = True

    def __init__(self, files: SlotFiles, kind: str, key: str) -> None:
        self._lock = files.lock
        self._file = files.of(kind)
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


class _Placed:
    """Hands the files of the parent down to every labelled child."""

    _kwargs: dict[str, Any]
    _name: str
    _documentation: str
    _labelnames: tuple[str, ...]
    _labelvalues: tuple[str, ...]

    def __init__(self, *args: Any, files: SlotFiles | None = None, **kwargs: Any) -> None:
        self._files = files
        super().__init__(*args, **kwargs)
        self._kwargs["files"] = files

    def _number(
        self, files: SlotFiles, kind: str, suffix: str = "", le: float | None = None
    ) -> SharedNumber:
        names, words = self._labelnames, self._labelvalues
        if le is not None:
            names, words = (*names, "le"), (*words, floatToGoString(le))  # type: ignore[no-untyped-call]
        name = self._name + suffix
        key = mmap_key(self._name, name, list(names), list(words), self._documentation)
        return SharedNumber(files, kind, key)


class PlacedCounter(_Placed, Counter):
    def _metric_init(self) -> None:
        super()._metric_init()
        if self._files is not None:
            self._value = self._number(self._files, "counter", "_total")


class PlacedGauge(_Placed, Gauge):
    def _metric_init(self) -> None:
        super()._metric_init()
        if self._files is not None:
            self._value = self._number(self._files, f"gauge_{self._multiprocess_mode}")


class PlacedHistogram(_Placed, Histogram):
    def _metric_init(self) -> None:
        if self._files is None:
            super()._metric_init()
            return
        self._created = time.time()
        self._sum = self._number(self._files, "histogram", "_sum")
        self._buckets = [
            self._number(self._files, "histogram", "_bucket", le) for le in self._upper_bounds
        ]
