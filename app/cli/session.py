"""Opening the office: settings, store and use cases for one command, and its known failures."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from app import dotenv
from app.cli.failure import MISUSED, CommandFailed
from app.cli.out import note, patience
from app.cli.owner import act_as_owner

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import Office

T = TypeVar("T")

NO_BOOKS = (
    "koi: The store holds no books, and no journal here remembers any. If gateways ever ran on it, "
    "it lost everything: run `koi ledger rebuild --journal DIR` with their journals."
)


def read_settings(**overrides: Any) -> "Settings":
    """The settings, or their faults in one message; None among the overrides changes nothing.

    From here on this process works in the name of the data directory's owner.
    """
    settings, read = _loaded(overrides), dotenv.is_read()
    if act_as_owner(settings.data_dir):
        # Whether a .env may be trusted depends on who reads it.
        if read and (reason := dotenv.distrust()):
            raise CommandFailed(reason, MISUSED)
        settings = _loaded(overrides)
        act_as_owner(settings.data_dir)
    return settings


def _loaded(overrides: dict[str, Any]) -> "Settings":
    from app.setting_faults import SettingsInvalid  # noqa: PLC0415 - see in_office
    from app.settings import load_settings  # noqa: PLC0415

    try:
        return load_settings(**{k: v for k, v in overrides.items() if v is not None})
    except SettingsInvalid as invalid:
        sentences = "\n     ".join(invalid.sentences)
        raise CommandFailed(sentences, MISUSED) from None


def quiet() -> None:
    """Log to stderr, and only what an operator must know: standard output is the answer."""
    from app.telemetry.logs import configure  # noqa: PLC0415 - see in_office

    configure("console", "error", sys.stderr)


def in_office(
    work: "Callable[[Office], Awaitable[T]]",
    *,
    what: str = "Working",
    verify: bool = True,
    reads: bool = False,
) -> T:
    """Run one operator command against the store, embedded or not.

    Books that lost data must not look healthy, so they are verified first; what `reads` them all
    also says when there are none.

    The wiring is imported here: it costs more than a second that `--help` should not.
    """
    from app.cli.explain import known_failures  # noqa: PLC0415
    from app.wiring import open_office  # noqa: PLC0415

    settings = read_settings()
    quiet()

    async def session() -> T:
        async with open_office(settings) as office:
            if verify:
                await office.ledger.verify()
            if reads and not await office.ledger.begun():
                note(NO_BOOKS)
            return await work(office)

    with known_failures(), patience(what):
        return asyncio.run(session())
