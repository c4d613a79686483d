"""Ends a test that waits for ever, and says what every task of its loop waits for."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator

import pytest

# The slowest test of the ordinary suite takes a minute on a busy machine.
SECONDS = 240
AGAIN = 20
"""Seconds until it is tried again, where the test's cleanup waits for ever too."""


@contextlib.contextmanager
def deadline(item: pytest.Item, seconds: float = SECONDS) -> Iterator[None]:
    """Fail what runs inside after `seconds`. Main thread only: it rings by SIGALRM. Chaos runs take
    as long as they were asked to."""
    if item.get_closest_marker("chaos") is not None:
        yield
        return

    def ring(*_: object) -> None:
        _print_tasks(item.nodeid)
        pytest.fail(f"{item.nodeid} took more than {seconds:g} s; its tasks are on stderr")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _print_tasks(name: str) -> None:
    """To the real stderr: under xdist a worker's report may never arrive."""
    out = sys.__stderr__
    if out is None:
        return
    print(f"\n{name} does not end. Tasks:", file=out)
    for task in [found for found in gc.get_objects() if isinstance(found, asyncio.Task)]:
        if not task.done():
            print(task, file=out)
            task.print_stack(file=out)
    out.flush()
