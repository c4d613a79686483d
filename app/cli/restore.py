"""`koi restore`: a backup into an empty store of any kind."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from app.cli.backup_source import check_file, explained_file, print_contents
from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.options import AsJson, require_text
from app.cli.output import print_fields, print_json, print_line, print_notice
from app.cli.progress import CopyProgress
from app.cli.session import run_operation
from app.domain.ledger import LedgerAudit

if TYPE_CHECKING:
    from app.recovery.pictures import PictureRestorer
    from app.recovery.restore import BackupContents, RestoreReport
    from app.wiring.operator import OperatorContext

TakeRow = Callable[[list[Any]], Awaitable[None]]


def restore(
    file: Annotated[str, Parameter(help="A file of `koi backup`.")],
    *,
    dry_run: Annotated[
        bool, Parameter(help="Read the file and look at the store; change nothing.", negative=())
    ] = False,
    pictures: Annotated[
        bool, Parameter(help="The pictures in it, too, into the file store.", negative=())
    ] = False,
    json: AsJson = False,
) -> int:
    """Put a backup into an empty store: the embedded one, Redis, Sentinel or a cluster.

    The whole file is read first, so that nothing is restored from one that was cut. Until
    everything is there the store is closed for spending; after an interruption run the same command
    again. Gateways then go on: open jobs are finished, repeats find their answers, keys work. What
    happened after the backup is not in it: where a journal of that time is left, run `koi ledger
    rebuild --journal DIR` next, before any gateway spends.

    Example: koi restore koi-2026-11-29.gz --pictures
             KOI_REDIS_URL=redis://new:6379 koi restore koi.gz --dry-run
    """
    require_text("FILE", file)
    path = Path(file)
    found = check_file(path)
    if pictures and not found.header.pictures:
        raise usage_error(f"{file} holds no pictures: it was made without --pictures.")

    async def work(context: "OperatorContext") -> Restored | None:
        if pictures and context.settings.image_store != "file":
            raise usage_error("KOI_IMAGE_STORE is a bucket; only a file store takes pictures back.")
        if dry_run:
            await require_empty(context, found.end.name)
            return None
        return await restore_into(context, path, found, pictures=pictures)

    done = run_operation(work, activity="Restoring the ledger", verify=False)
    if done is None:
        print_contents(found, json)
        print_notice("koi: The store is empty and would take this; nothing was changed.")
        return 0
    _print_restored(done, json)
    return EXIT_FAILED if done.audit.differences else 0


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and whether the counters agree with the entries. `newer` is how many
    changes this machine's journal knows that the backup does not."""

    report: "RestoreReport"
    audit: LedgerAudit
    pictures: int
    newer: int

    @property
    def record(self) -> dict[str, object]:
        return {
            "entries": self.report.entries,
            "open_jobs": self.report.open_jobs,
            "records": self.report.records,
            "pictures": self.pictures,
            "difference": self.audit.difference,
            "newer_changes": self.newer,
        }


async def restore_into(
    context: "OperatorContext",
    path: Path,
    found: "BackupContents",
    *,
    pictures: bool = False,
    reason: str = "",
) -> Restored:
    """Raises `CommandFailed`, `LedgerUnavailable`."""
    from app.domain.administration import AuditNote  # noqa: PLC0415 - heavy
    from app.recovery.backup_file import BackupReader  # noqa: PLC0415
    from app.recovery.pictures import PictureRestorer  # noqa: PLC0415
    from app.recovery.restore import restore_ledger  # noqa: PLC0415
    from app.wiring.operator import find_operator  # noqa: PLC0415

    note = AuditNote(find_operator(), "ledger.restored", reason)
    restorer = PictureRestorer(context.settings.data_dir / "images") if pictures else None
    with explained_file(path):
        reader = BackupReader(path)
        take = _taker(restorer, CopyProgress("Restored", found.entries), reader)
        report = await restore_ledger(context.scripts, reader, found.end, context.terms, note, take)
    audit = await context.ledger.audit(full=True)
    return Restored(report, audit, restorer.restored if restorer else 0, _newer(context, found))


def _taker(restorer: "PictureRestorer | None", progress: CopyProgress, reader: Any) -> TakeRow:
    entries = 0

    async def take(row: list[Any]) -> None:
        nonlocal entries
        entries += row[0] == "entry"
        progress.report(entries, reader.read_bytes)
        if restorer is not None:
            await restorer.take(row)

    return take


async def require_empty(context: "OperatorContext", name: str) -> None:
    """Raises `CommandFailed` when the store would not take the backup of that name."""
    from app.recovery.restore import check_empty  # noqa: PLC0415 - heavy

    with explained_file(Path()):
        await check_empty(context.scripts, name)


def _newer(context: "OperatorContext", found: "BackupContents") -> int:
    known = context.scripts.journal.position
    if known is None or known.epoch != found.end.epoch:
        return 0
    return max(known.seq - found.end.seq, 0)


def _print_restored(done: Restored, json: bool) -> None:
    if json:
        print_json(done.record)
    else:
        print_fields({name.replace("_", " "): value for name, value in done.record.items()})
        print_line()
    if done.newer:
        print_notice(
            f"koi: This machine's journal knows {done.newer:,} changes that came after the backup. "
            "Run `koi ledger rebuild` to put them back; gateways with this journal spend nothing "
            "before."
        )
    elif not json:
        print_line("Gateways may start. Compare with the provider's bill: koi ledger import-bill.")
