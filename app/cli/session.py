"""What one command works with: settings, and the store with the use cases on it."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from app import dotenv
from app.cli.data_dir_owner import act_as_owner
from app.cli.errors import EXIT_USAGE, CommandFailed, translate_errors
from app.cli.lean_imports import disable_pydantic_plugins, without_gc, without_unused_modules
from app.cli.output import print_notice, progress_notice

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring.operator import OperatorContext

T = TypeVar("T")

NO_LEDGER_NOTICE = (
    "koi: The store holds no ledger, and there is no journal here. If gateways ever ran on this "
    "store, it lost everything: run `koi ledger rebuild --journal DIR` with their journals."
)
NEW_DATA_DIR_NOTICE = (
    "was not there and has been made: no gateway has kept anything in it. If one runs elsewhere, "
    "KOI_DATA_DIR has to name its directory."
)
NO_DATA_DIR_NOTICE = (
    "is not there: no gateway has kept anything in it yet, or KOI_DATA_DIR has to name another "
    "directory."
)


def load_settings_as_owner(**overrides: Any) -> "Settings":
    """The settings, or all their faults in one message; an override that is None changes nothing.

    From here on this process runs as the owner of the data directory.
    """
    settings, read = _load_settings(overrides), dotenv.is_loaded()
    if act_as_owner(settings.data_dir):
        # Whether a .env may be trusted depends on who reads it.
        if read and (reason := dotenv.find_distrust_reason()):
            raise CommandFailed(reason, EXIT_USAGE)
        settings = _load_settings(overrides)
        act_as_owner(settings.data_dir)
    return settings


def load_settings_as_reader(**overrides: Any) -> "Settings":
    """The same for a command that leaves the data directory alone, as whoever runs it."""
    return _load_settings(overrides)


def _load_settings(overrides: dict[str, Any]) -> "Settings":
    disable_pydantic_plugins()
    from app.settings import load_settings  # noqa: PLC0415 - see run_operation
    from app.settings_validation import SettingsInvalid  # noqa: PLC0415

    try:
        return load_settings(**{k: v for k, v in overrides.items() if v is not None})
    except SettingsInvalid as invalid:
        sentences = "\n     ".join(invalid.sentences)
        raise CommandFailed(sentences, EXIT_USAGE) from None


def configure_quiet_logging() -> None:
    """Log errors only, and to stderr: standard output is the answer."""
    with without_unused_modules():
        from app.telemetry.logs import configure  # noqa: PLC0415 - see run_operation

        configure("console", "error", sys.stderr)


def run_operation(
    work: "Callable[[OperatorContext], Awaitable[T]]",
    *,
    activity: str = "Working",
    verify: bool = True,
    changes: bool = True,
    reads_ledger: bool = False,
) -> T:
    """Run one operator command against the store, embedded or not.

    A store that lost data must not look healthy, so it is verified first. A command that `changes`
    nothing leaves no data directory behind where there was none; one that does makes it, and says
    so where the store is in it. One that reads the whole ledger also says when there is none.

    Nothing heavy is imported at the top of a command's module: that would slow down every command.
    """
    with without_gc():
        settings = load_settings_as_owner()
        configure_quiet_logging()
        from app.wiring.operator import open_operator_context  # noqa: PLC0415

    is_new = has_no_data(settings)
    empty = is_new and not changes
    if empty and settings.redis_url is None:
        print_notice(f"koi: {settings.data_dir.absolute()} {NO_DATA_DIR_NOTICE}")
        reads_ledger = False

    async def session(settings: "Settings") -> T:
        async with open_operator_context(settings) as context:
            if is_new and changes and settings.redis_url is None:
                # In the wrong directory the command would otherwise succeed, for a store that no
                # gateway has.
                print_notice(f"koi: {settings.data_dir.absolute()} {NEW_DATA_DIR_NOTICE}")
            if verify:
                await context.ledger.verify()
            if reads_ledger and not await context.ledger.has_data():
                print_notice(NO_LEDGER_NOTICE)
            return await work(context)

    opened = empty_data_dir(settings) if empty else nullcontext(settings)
    with translate_errors(), progress_notice(activity), opened as used:
        return asyncio.run(session(used))


def has_no_data(settings: "Settings") -> bool:
    """Whether there is no data directory. One that was deleted while its store runs counts as
    there: opening it says so."""
    if settings.data_dir.exists():
        return False
    from app.adapters.embedded.liveness import find_stray_server  # noqa: PLC0415

    return find_stray_server(Path(os.path.realpath(settings.data_dir / "store"))) is None


@contextmanager
def empty_data_dir(settings: "Settings") -> "Iterator[Settings]":
    """The same settings with an empty data directory, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="koi-") as empty:
        yield settings.model_copy(update={"data_dir": Path(empty)})
