"""`koi store`: the embedded store itself, and the version of any store's data."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.cli.errors import EXIT_FAILED, CommandFailed, translate_errors, usage_error
from app.cli.options import AsJson
from app.cli.output import print_fields, print_json, print_line, progress_notice
from app.cli.rebuild import RebuildOutcome, rebuild_and_audit
from app.cli.session import configure_quiet_logging, load_settings_as_owner, run_operation
from app.domain.errors import LedgerDataLost
from app.domain.rebuild import RebuildRefused

if TYPE_CHECKING:
    from app.adapters.embedded.repair import RepairResult
    from app.wiring.operator import OperatorContext

NO_JOURNAL = (
    "No journal was found: what the damaged part held cannot be known. Compare with the provider's "
    "bill: koi ledger import-bill."
)
store = App(name="store", help="Repair the embedded store, upgrade the data of any store.")


@store.command
def repair(
    *,
    from_journal: Annotated[
        bool,
        Parameter(
            help="Also when this machine's engine may not read the data: begin with an empty store "
            "and the journal.",
            negative=(),
        ),
    ] = False,
    json: AsJson = False,
) -> int:
    """Make an embedded store start again whose data is damaged.

    Its log is moved to KOI_DATA_DIR/store/damaged-…; a new store takes over what can be read of it,
    and the ledger is completed from the journal. Nothing is deleted. Stop the gateway
    first: nothing is done while one runs. Exits 1 when something could not be recovered, and says
    what.

    Example: koi store repair
    Example: KOI_DATA_DIR=/var/lib/koi koi store repair --from-journal --json
    """
    repaired = _repair_store(from_journal=from_journal)
    if repaired is None:
        return _report_healthy(json)
    report, sentence = run_operation(
        _rebuild_ledger, activity="Rebuilding the ledger", verify=False
    )
    if json:
        print_json(_record(repaired, report, sentence))
    else:
        _print_repaired(repaired, report, sentence)
    return 0 if (report is None and not sentence) or (report and report.whole) else EXIT_FAILED


@store.command
def upgrade(*, json: AsJson = False) -> None:
    """Make the data of an earlier version of Koi that of this one.

    Gateways and commands refuse a store whose data is of another version and say so. Stop the
    gateways, make a backup with the Koi that wrote the data, then run this. The store is closed
    meanwhile; an interrupted upgrade is run again. Most releases need none.

    Example: koi store upgrade
    """

    async def work(context: "OperatorContext") -> tuple[int, int]:
        from app.adapters.redis.keyspace import DATA_VERSION  # noqa: PLC0415 - heavy
        from app.recovery.upgrade import UpgradeRefused, upgrade_store  # noqa: PLC0415

        try:
            return await upgrade_store(context.scripts), DATA_VERSION
        except UpgradeRefused as refusal:
            raise CommandFailed(str(refusal)) from refusal

    before, now = run_operation(work, activity="Upgrading the store's data", verify=False)
    if json:
        print_json({"before": before, "now": now})
    elif before == now:
        print_line(f"The store's data is of version {now}; there is nothing to upgrade.")
    else:
        print_line(f"The store's data is of version {now} now; it was of version {before}.")


def _repair_store(*, from_journal: bool) -> "RepairResult | None":
    from app.adapters.embedded.repair import repair as repair_store  # noqa: PLC0415 - heavy

    settings = load_settings_as_owner()
    if settings.redis_url is not None:
        raise usage_error(
            "KOI_REDIS_URL names a server of yours: repair it with its own tools, then run "
            "`koi ledger rebuild`. This command repairs the embedded store only."
        )
    if not (settings.data_dir / "store").is_dir():
        raise CommandFailed(f"There is no store in {settings.data_dir}; check KOI_DATA_DIR.")
    if from_journal and not any((settings.data_dir / "journal").glob("*.jsonl*")):
        raise CommandFailed("There is no journal to build the ledger from; nothing was moved.")
    configure_quiet_logging()
    with translate_errors(), progress_notice("Reading the store"):
        return repair_store(settings.data_dir, from_journal=from_journal)


def _report_healthy(json: bool) -> int:
    """The store starts; its ledger may have lost data all the same."""

    async def is_intact(context: "OperatorContext") -> bool:
        try:
            await context.ledger.verify()
        except LedgerDataLost:
            return False
        return True

    whole = run_operation(is_intact, verify=False)
    if json:
        print_json({"repaired": False, "books_intact": whole})
    else:
        print_line("The store starts; there is nothing to repair.")
    if not whole:
        raise CommandFailed("The store starts, but its ledger lost data: run `koi ledger rebuild`.")
    return 0


async def _rebuild_ledger(context: "OperatorContext") -> tuple[RebuildOutcome | None, str]:
    """What a rebuild restored; without a rebuild None, and why if one was needed."""
    history = context.history()
    if not any(True for _ in history):
        return None, NO_JOURNAL
    try:
        return await rebuild_and_audit(context), ""
    except CommandFailed as failure:
        if isinstance(failure.__cause__, RebuildRefused) and failure.__cause__.complete:
            return None, ""
        return None, str(failure)


def _figures(repaired: "RepairResult") -> dict[str, object]:
    read = repaired.readable
    return {
        "moved aside": str(repaired.aside),
        "bytes read of it": f"{read.kept} of {read.whole}",
        "why not all": read.why,
    }


def _print_repaired(repaired: "RepairResult", report: RebuildOutcome | None, sentence: str) -> None:
    print_fields(_figures(repaired) | (report.figures if report else {}))
    if report is not None:
        report.print_advice()
        return
    print_line()
    print_line(
        sentence
        or "What could be read of it has everything that the journal has: nothing is missing."
    )


def _record(
    repaired: "RepairResult", report: RebuildOutcome | None, sentence: str
) -> dict[str, object]:
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
