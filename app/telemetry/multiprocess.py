"""Metric files that several worker processes share, named by the worker's number.

By default the library names them by process id: such files pile up, and the gauges of dead
processes still count. A number is taken again by the process that replaces a dead worker, which
goes on counting from where that one was.
"""

import fcntl
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import values
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.telemetry.metric_specs import GaugeMerge

INITIAL_FILE_BYTES = 1 << 20
FILE_KINDS = ("counter", "histogram", *(f"gauge_{merge}" for merge in GaugeMerge))


def share_values(directory: Path) -> None:
    """From here on the metrics that this process makes keep their values in files of `directory`,
    under the lowest number that is free. Raises `OSError`."""
    worker_number = claim_worker_number(directory)
    for kind in FILE_KINDS:
        path = directory / f"{kind}_{worker_number}.db"
        if not path.exists():
            _create_file(path)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: worker_number)  # type: ignore[no-untyped-call]


def stop_sharing_values() -> None:
    """Close the files: the metrics of `share_values` must not be used afterwards, and those made
    from here on keep their values in memory."""
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]
    values.ValueClass = values.MutexValue


def _create_file(path: Path) -> None:
    """Real zeros, since a full disk must fail here and not as SIGBUS in the middle of a request;
    and the final name only for a whole file, since a scrape must not read an empty one."""
    draft = path.with_suffix(".new")
    draft.write_bytes(bytes(INITIAL_FILE_BYTES))
    draft.rename(path)


def claim_worker_number(directory: Path) -> int:
    """Take the lowest free number in a directory for as long as this process lives.

    The lock belongs to an open file that is never closed on purpose: the kernel frees the number
    when the process dies, however it dies.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for worker_number in itertools.count():
        if _try_lock(directory / f"slot-{worker_number}.lock") is not None:
            return worker_number
    raise AssertionError("unreachable")


def clear_stale_files(directory: Path) -> None:
    """Forget the counts of an earlier run. Called by the supervisor before its first worker.

    Files of a number that a living process holds stay: two gateways that were given one directory
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


class WithoutCreated(Collector):
    """A source without `_created` samples, which only the OpenMetrics format allows."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        for metric in self._source.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
