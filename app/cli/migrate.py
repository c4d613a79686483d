"""`koi migrate`: the ledger moves to another store, and nobody spends on the old one any more."""

from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.backup import write_backup
from app.cli.backup_source import check_file
from app.cli.backup_target import open_target
from app.cli.errors import CommandFailed, usage_error
from app.cli.options import AsJson, require_text
from app.cli.output import print_fields, print_json, print_line, print_notice
from app.cli.restore import require_empty, restore_into
from app.cli.session import run_operation
from app.domain.check_result import CheckStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.recovery.move import LedgerTotals
    from app.wiring.operator import OperatorContext

STAYS_CLOSED = (
    "koi: The old store stays closed, so nothing is spent twice. Run the same command again to go "
    "on; or add --cancel to stay with the old store."
)


def migrate(
    *,
    to: Annotated[str, Parameter(help="The new store: redis://…, rediss://…, redis+cluster://….")],
    cancel: Annotated[
        bool,
        Parameter(help="Open the old store again; nothing has run on the new one.", negative=()),
    ] = False,
    json: AsJson = False,
) -> None:
    """Move the ledger to a server, from the embedded store or another server.

    The old store is closed first: gateways that still run refuse to spend and name the new place,
    and settlements of what they have under way wait on their disk. Then everything is copied into
    the new store, which must be empty, and both sides are compared. At the end it prints what to
    set. Pictures stay where they are. It may be interrupted and run again.

    Example: koi migrate --to redis://koi:PASSWORD@store.internal:6379/0
    """
    _check_target(to)

    async def work(context: "OperatorContext") -> Migration | None:
        async with _opened(context, to, durable=not cancel) as target:
            if cancel:
                await _cancel(context, target, to)
                return None
            return await _move(context, target, to)

    done = run_operation(work, activity="Moving the ledger", verify=False)
    if done is None:
        print_line("The old store is open again: gateways on it go on by themselves.")
    elif json:
        print_json(done.record)
    else:
        done.print_report()


def _check_target(to: str) -> None:
    from app.address_settings import check_store_url  # noqa: PLC0415 - not for the help

    require_text("--to", to)
    for sentence in check_store_url("--to", to):
        raise usage_error(sentence)


@dataclass(frozen=True, slots=True)
class Migration:
    """`copy` is the file that the ledger went through; it is kept."""

    place: str
    copy: Path
    totals: "LedgerTotals"
    was_embedded: bool

    @property
    def record(self) -> dict[str, object]:
        return {"moved_to": self.place, "copy": str(self.copy), **asdict(self.totals)}

    def print_report(self) -> None:
        shown = ("entries", "images", "surplus", "records", "open_jobs", "collecting_jobs")
        print_fields({name.replace("_", " "): getattr(self.totals, name) for name in shown})
        print_line()
        print_line(f"Both stores hold the same. The old one is closed; a copy is in {self.copy}.")
        print_line("Now, on every machine that runs a gateway:")
        print_line("  1. set KOI_REDIS_URL to the URL given here, with its password")
        print_line("  2. leave KOI_DATA_DIR as it is: its journal and what it owes go with it")
        print_line("  3. restart the gateway, then run `koi doctor`")
        if self.was_embedded:
            print_line("The old store's files stay in KOI_DATA_DIR/store until you remove them.")


@asynccontextmanager
async def _opened(
    context: "OperatorContext", to: str, *, durable: bool
) -> "AsyncIterator[OperatorContext]":
    """`durable`: the ledger is going to be there, so the store must keep it."""
    from app.wiring.check_store import check_store  # noqa: PLC0415 - heavy
    from app.wiring.operator import open_operator_context  # noqa: PLC0415

    found = await check_store("store", to, durable=durable, setting="--to")
    for result in found:
        if result.status is CheckStatus.FAIL:
            raise usage_error(f"The new store cannot be used: {result.text}. {result.fix}")
    settings = context.settings.model_copy(update={"redis_url": to})
    async with open_operator_context(settings) as target:
        yield target


async def _move(context: "OperatorContext", target: "OperatorContext", to: str) -> Migration:
    from app.recovery import move  # noqa: PLC0415 - heavy

    source, place = context.scripts, move.describe_place(to)
    found = await source.run("read_epoch")
    await _check_sides(context, target)
    was_embedded = context.settings.redis_url is None
    copy = context.settings.data_dir.absolute() / f"moved-{found['epoch'][:8]}.koi.gz"
    try:
        await move.close_for_move(source, place)
    except move.MoveRefused as refusal:
        raise CommandFailed(str(refusal)) from refusal
    try:
        if await move.continues(target.scripts, found["epoch"]) is None:
            with open_target(str(copy), force=True) as out:
                await write_backup(context, out, moved=True)
            await restore_into(target, copy, check_file(copy), reason=f"moved to {place}")
        totals = await _compare(context, target)
        await _reopen(target, context)
    except BaseException:
        print_notice(STAYS_CLOSED)
        raise
    return Migration(place, copy, totals, was_embedded)


async def _check_sides(context: "OperatorContext", target: "OperatorContext") -> None:
    """Before anything is closed. Raises `CommandFailed`, `LedgerDataLost`."""
    from app.recovery import move  # noqa: PLC0415 - heavy

    found, other = [await side.scripts.run("read_epoch") for side in (context, target)]
    if found["epoch"] is None:
        raise CommandFailed("The store holds no ledger, so there is nothing to move.")
    if other["epoch"] == found["epoch"]:
        raise usage_error("--to names the store that is in use already.")
    if not (found["suspect"] or "").startswith("moved "):
        await context.ledger.verify()
    if await move.continues(target.scripts, found["epoch"]) is None:
        await require_empty(target, f"{found['epoch']}.{found['seq']}")
    elif other["suspect"] not in (None, f"moved {_place_of(context)}"):
        raise CommandFailed(
            f"The new store is closed itself ({other['suspect']}), so nothing can go on there. "
            "Nothing was changed; name another store, or empty this one."
        )


async def _reopen(target: "OperatorContext", context: "OperatorContext") -> None:
    """An earlier move was cancelled and closed the new store; it holds the same as the old one.
    One that was closed for another reason stays so."""
    from app.recovery import move  # noqa: PLC0415 - heavy

    suspect = (await target.scripts.run("read_epoch"))["suspect"]
    if suspect == f"moved {_place_of(context)}":
        await move.reopen(target.scripts)


def _place_of(context: "OperatorContext") -> str:
    from app.recovery.move import describe_place  # noqa: PLC0415 - heavy

    url = context.settings.redis_url
    return "the embedded store" if url is None else describe_place(url)


async def _compare(context: "OperatorContext", target: "OperatorContext") -> "LedgerTotals":
    """Raises `CommandFailed` when the sides differ."""
    from app.recovery.move import continues, read_totals  # noqa: PLC0415 - heavy

    ours, theirs = await read_totals(context.scripts), await read_totals(target.scripts)
    epoch = (await context.scripts.run("read_epoch"))["epoch"]
    untouched = await continues(target.scripts, epoch) == 0
    differing = ours.differences(theirs) if untouched else []
    audit = await target.ledger.audit()
    if differing or audit.differences:
        raise CommandFailed(
            f"The new store differs from the old one in {', '.join(differing) or 'its counters'}. "
            "Empty the new store and run this again."
        )
    return ours


async def _cancel(context: "OperatorContext", target: "OperatorContext", to: str) -> None:
    from app.recovery import move  # noqa: PLC0415 - heavy

    epoch = (await context.scripts.run("read_epoch"))["epoch"]
    seq = (await target.scripts.run("read_epoch"))["seq"]
    made = await move.continues(target.scripts, epoch or "")
    if made:
        raise CommandFailed(
            f"A gateway or command has run on {move.describe_place(to)} already: what it spent is "
            "known only there. Opening the old store again would lose it; move back instead: empty "
            "the old store and run `koi migrate` from the new one."
        )
    try:
        if made is not None:
            await move.close_for_move(target.scripts, _place_of(context), seq)
        await move.reopen(context.scripts)
    except move.MoveRefused as refusal:
        raise CommandFailed(str(refusal)) from refusal
