"""Loads libraries without what Koi never uses of them, whether that is installed or not.

structlog loads rich to print tracebacks, which Koi formats itself, and greenlet for the contexts of
other frameworks. rich takes as long to load as Koi itself, greenlet a megabyte.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED_MODULES = ("rich", "greenlet")


@contextmanager
def without_unused_modules() -> Iterator[None]:
    """An import of one fails, as if it were not installed; afterwards it is possible again."""
    absent = [name for name in UNUSED_MODULES if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def without_gc() -> Iterator[None]:
    """For loading modules: the collector would look through all of them several times."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
