"""`koi store`: the embedded store itself."""

from typing import TYPE_CHECKING

from cyclopts import App

from app.cli.failure import FAILED, CommandFailed, misused
from app.cli.options import AsJson
from app.cli.out import patience, say, say_fields, say_json
from app.cli.rebuild import Report, rebuild_books
from app.cli.session import in_office, quiet, read_settings
from app.domain.errors import LedgerLost
from app.domain.rebuild import RebuildRefused

if TYPE_CHECKING:
    from app.adapters.embedded.repair import Repaired
    from app.wiring import Office

store = App(name="store", help="Mend the embedded store.")


@store.command
def repair(*, json: AsJson = False) -> int:
    """Make an embedded store start again whose data is damaged.

    Its log is moved to KOI_DATA_DIR/store/damaged-…; a new store takes over what can be read of it,
    and the books are put together again with the journal. Nothing is deleted. Stop the gateway
    first: nothing is done while one runs. Exits 1 when something could not be recovered, and says
    what.

    Example: koi store repair
    Example: KOI_DATA_DIR=/var/lib/koi koi store repair --json
    """
    repaired = _repaired()
    if repaired is None:
        return _healthy(json)
    report, sentence = in_office(_rebuilt, what="Putting the books together again", verify=False)
    if json:
        say_json(_record(repaired, report, sentence))
    else:
        _say(repaired, report, sentence)
    return 0 if (report is None and not sentence) or (report and report.whole) else FAILED


def _repaired() -> "Repaired | None":
    from app.adapters.embedded.repair import repair as mend  # noqa: PLC0415 - heavy
    from app.cli.explain import known_failures  # noqa: PLC0415

    settings = read_settings()
    if settings.redis_url is not None:
        raise misused(
            "KOI_REDIS_URL names a server of yours: repair it with its own tools, then run "
            "`koi ledger rebuild`. This command mends the embedded store only."
        )
    if not (settings.data_dir / "store").is_dir():
        raise CommandFailed(f"There is no store in {settings.data_dir}; check KOI_DATA_DIR.")
    quiet()
    with known_failures(), patience("Looking at the store"):
        return mend(settings.data_dir)


def _healthy(json: bool) -> int:
    """The store starts; its books may have lost data all the same."""

    async def look(office: "Office") -> bool:
        try:
            await office.ledger.verify()
        except LedgerLost:
            return False
        return True

    whole = in_office(look, verify=False)
    if json:
        say_json({"repaired": False, "books_intact": whole})
    else:
        say("The store starts; there is nothing to repair.")
    if not whole:
        raise CommandFailed("The store starts, but its books lost data: run `koi ledger rebuild`.")
    return 0


async def _rebuilt(office: "Office") -> tuple[Report | None, str]:
    """What a rebuild made: no report when there was none, and a sentence when one was needed."""
    history = office.history()
    if not any(True for _ in history):
        return None, "No journal was found: what the damaged part held cannot be known."
    try:
        return await rebuild_books(office), ""
    except CommandFailed as failure:
        if isinstance(failure.__cause__, RebuildRefused) and failure.__cause__.complete:
            return None, ""
        return None, str(failure)


def _figures(repaired: "Repaired") -> dict[str, object]:
    read = repaired.readable
    return {
        "moved aside": str(repaired.aside),
        "bytes read of it": f"{read.kept} of {read.whole}",
        "why not all": read.why,
    }


def _say(repaired: "Repaired", report: Report | None, sentence: str) -> None:
    say_fields(_figures(repaired) | (report.figures if report else {}))
    if report is not None:
        report.advise()
        return
    say()
    say(
        sentence
        or "What could be read of it knows everything the journal does: nothing is missing."
    )


def _record(repaired: "Repaired", report: Report | None, sentence: str) -> dict[str, object]:
    read = repaired.readable
    return {
        "repaired": True,
        "moved_aside": str(repaired.aside),
        "bytes_read": read.kept,
        "bytes": read.whole,
        "why": read.why or None,
        "books": report.record if report else None,
        "missing": sentence or None,
    }
