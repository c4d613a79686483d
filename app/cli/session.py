"""Opening the office: settings, store and use cases for one command, and its known failures."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from app import dotenv
from app.cli.data_dir_owner import act_as_owner
from app.cli.errors import EXIT_USAGE, CommandFailed
from app.cli.output import print_notice, progress_notice

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import OperatorContext

T = TypeVar("T")

NO_LEDGER_NOTICE = (
    "koi: The store holds no books, and no journal here remembers any. If gateways ever ran on it, "
    "it lost everything: run `koi ledger rebuild --journal DIR` with their journals."
)


def load_settings_as_owner(**overrides: Any) -> "Settings":
    """The settings, or their faults in one message; None among the overrides changes nothing.

    From here on this process works in the name of the data directory's owner.
    """
    settings, read = _load_settings(overrides), dotenv.is_loaded()
    if act_as_owner(settings.data_dir):
        # Whether a .env may be trusted depends on who reads it.
        if read and (reason := dotenv.find_distrust_reason()):
            raise CommandFailed(reason, EXIT_USAGE)
        settings = _load_settings(overrides)
        act_as_owner(settings.data_dir)
    return settings


def _load_settings(overrides: dict[str, Any]) -> "Settings":
    from app.settings import load_settings  # noqa: PLC0415
    from app.settings_validation import SettingsInvalid  # noqa: PLC0415 - see in_office

    try:
        return load_settings(**{k: v for k, v in overrides.items() if v is not None})
    except SettingsInvalid as invalid:
        sentences = "\n     ".join(invalid.sentences)
        raise CommandFailed(sentences, EXIT_USAGE) from None


def configure_quiet_logging() -> None:
    """Log to stderr, and only what an operator must know: standard output is the answer."""
    from app.telemetry.logs import configure  # noqa: PLC0415 - see in_office

    configure("console", "error", sys.stderr)


def run_operation(
    work: "Callable[[OperatorContext], Awaitable[T]]",
    *,
    activity: str = "Working",
    verify: bool = True,
    reads_ledger: bool = False,
) -> T:
    """Run one operator command against the store, embedded or not.

    Books that lost data must not look healthy, so they are verified first; what `reads` them all
    also says when there are none.

    The wiring is imported here: it costs more than a second that `--help` should not.
    """
    from app.cli.error_messages import translate_errors  # noqa: PLC0415
    from app.wiring import open_operator_context  # noqa: PLC0415

    settings = load_settings_as_owner()
    configure_quiet_logging()

    async def session() -> T:
        async with open_operator_context(settings) as context:
            if verify:
                await context.ledger.verify()
            if reads_ledger and not await context.ledger.has_data():
                print_notice(NO_LEDGER_NOTICE)
            return await work(context)

    with translate_errors(), progress_notice(activity):
        return asyncio.run(session())
