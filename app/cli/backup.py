"""`koi backup`: everything that the store knows, in one file, while gateways run."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import Parameter

from app.cli.backup_source import check_file, print_contents
from app.cli.backup_target import STANDARD_OUTPUT, open_target
from app.cli.errors import CommandFailed, usage_error
from app.cli.options import AsJson, require_text
from app.cli.output import format_time, print_json, print_line, print_notice
from app.cli.overview import koi_version
from app.cli.progress import CopyProgress
from app.cli.session import run_operation
from app.service.check_backup import format_size

if TYPE_CHECKING:
    from app.recovery.backup_file import BackupEnd
    from app.wiring.operator import OperatorContext

NOT_IN_FILES = (
    "The pictures are in a bucket (KOI_IMAGE_STORE), which keeps them by itself: turn on its own "
    "versioning or replication, and make this backup without --pictures."
)


def backup(
    file: Annotated[
        str,
        Parameter(help="The file to write, or - for standard output.", allow_leading_hyphen=True),
    ],
    *,
    pictures: Annotated[
        bool, Parameter(help="The pictures of a file store, too.", negative=())
    ] = False,
    force: Annotated[bool, Parameter(help="Replace the file.", negative=())] = False,
    check: Annotated[
        bool, Parameter(help="Write nothing: read the file and say what it holds.", negative=())
    ] = False,
    json: AsJson = False,
) -> None:
    """Write everything that the store knows into one file, while gateways run.

    Users, teams, keys (as digests), limits, stops, ledger entries, jobs, answers to repeats, the
    audit log and the known journals, all of one moment. `koi restore` puts it into an empty store.
    The file is private (0600) and appears when it is whole. It holds no key, but what the store
    holds beside: keep it as private as the store.

    Example: koi backup /var/backups/koi-2026-11-29.gz --pictures
             koi backup - | ssh vault 'cat > koi.gz'
             koi backup --check koi.gz
    """
    require_text("FILE", file)
    if check:
        print_contents(check_file(Path(file)), json)
        return

    async def work(context: "OperatorContext") -> Backup:
        if pictures and context.settings.image_store != "file":
            raise usage_error(NOT_IN_FILES)
        if not await context.ledger.has_data():
            raise CommandFailed("The store holds no ledger, so there is nothing to back up.")
        with open_target(file, force=force) as out:
            made = await write_backup(context, out, pictures=pictures)
        await note_backup(context, made)
        return made

    made = run_operation(work, activity="Copying the ledger", changes=False)
    _print_made(file, made, json)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written, and its size."""

    end: "BackupEnd"
    size_bytes: int

    @property
    def record(self) -> dict[str, object]:
        counts = self.end.counts
        return {
            "taken": format_time(self.end.taken_ms),
            "sequence": self.end.seq,
            "epoch": self.end.epoch,
            "entries": counts.get("entry", 0),
            "pictures": counts.get("picture", 0),
            "bytes": self.size_bytes,
        }


async def write_backup(
    context: "OperatorContext", out: BinaryIO, *, pictures: bool = False, moved: bool = False
) -> Backup:
    """`moved`: the ledger was closed because it moves. Raises `LedgerUnavailable`, `OSError`."""
    from app.adapters.redis.keyspace import DATA_VERSION  # noqa: PLC0415 - loads the Redis client
    from app.recovery import backup_file  # noqa: PLC0415
    from app.recovery.backup import LedgerCopy  # noqa: PLC0415
    from app.recovery.pictures import copy_pictures  # noqa: PLC0415

    found = await context.scripts.run("read_epoch")
    expected = await count_entries(context)
    header = backup_file.BackupHeader(
        format=backup_file.FORMAT,
        data_version=DATA_VERSION,
        koi_version=koi_version(),
        started_ms=int(time.time() * 1000),
        epoch=found["epoch"],
        seq=found["seq"],
        entries=expected,
        pictures=pictures,
    )
    writer = backup_file.BackupWriter(out, header)
    progress = CopyProgress("Copied", expected)

    def report() -> None:
        progress.report(writer.counts[backup_file.RowKind.ENTRY], writer.size_bytes)

    end = await LedgerCopy(context.scripts, writer, report, moved=moved).run()
    if pictures:
        await copy_pictures(context.settings.data_dir / "images", writer, report)
    end = replace(end, counts=dict(writer.counts))
    writer.finish(end)
    progress.end()
    return Backup(end, writer.size_bytes)


async def count_entries(context: "OperatorContext") -> int | None:
    """About how many entries the ledger has, from its rollups; None before there are any."""
    from app.adapters.redis.counter_totals import sum_windows  # noqa: PLC0415
    from app.adapters.redis.rollups import RedisRollups  # noqa: PLC0415

    rollups = RedisRollups(context.scripts)
    return (await sum_windows(rollups, await rollups.coverage())).entries or None


async def note_backup(context: "OperatorContext", made: Backup) -> None:
    """Let the store remember it, for `koi doctor`."""
    from app.domain.backup import LatestBackup  # noqa: PLC0415 - see write_backup

    counts = made.end.counts
    latest = LatestBackup(
        taken_ms=made.end.taken_ms,
        size_bytes=made.size_bytes,
        entries=counts.get("entry", 0),
        pictures=counts.get("picture", 0),
        seq=made.end.seq,
    )
    await context.backups.note(latest)


def _print_made(file: str, made: Backup, json: bool) -> None:
    end, counts = made.end, made.end.counts
    sentence = (
        f"Backup of {format_time(end.taken_ms)} (change {end.seq:,}): "
        f"{counts.get('entry', 0):,} entries, {counts.get('picture', 0):,} pictures, "
        f"{format_size(made.size_bytes)}."
    )
    if file == STANDARD_OUTPUT:
        sys.stdout.flush()
        print_notice(f"koi: {sentence}")
    elif json:
        print_json({"file": file, **made.record})
    else:
        print_line(sentence)
