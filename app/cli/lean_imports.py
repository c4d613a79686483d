"""Loads libraries without what Koi never uses of them, whether that is installed or not.

structlog loads rich to print tracebacks, which Koi formats itself, and greenlet for the contexts of
other frameworks. rich takes as long to load as Koi itself, greenlet a megabyte. pydantic looks for
plugins in every installed distribution, and builds FastAPI's models of a schema before any is asked
for.
"""

import gc
import os
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


def load_fastapi() -> None:
    """Its models are built when they are first used, when somebody asks for /openapi.json: that is
    a sixteenth of a start and a megabyte."""
    from pydantic import BaseModel  # noqa: PLC0415 - not for the help

    BaseModel.model_config["defer_build"] = True
    import fastapi  # noqa: F401, PLC0415

    del BaseModel.model_config["defer_build"]


def disable_pydantic_plugins() -> None:
    """Before pydantic is loaded; it would read the metadata of every distribution for none."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


@contextmanager
def without_gc() -> Iterator[None]:
    """For loading modules: the collector would look through all of them several times."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
