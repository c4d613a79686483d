"""`koi backup`: everything that the store knows, in one file, while gateways run."""

import sys
from collections.abc import Callable
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
    from app.recovery.backup_file import BackupWriter
    from app.recovery.take_backup import Backup
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

    async def work(context: "OperatorContext") -> "Backup":
        if pictures and context.settings.image_store != "file":
            raise usage_error(NOT_IN_FILES)
        if not await context.ledger.has_data():
            raise CommandFailed("The store holds no ledger, so there is nothing to back up.")
        with open_target(file, force=force) as out:
            made = await write_backup(context, out, pictures=pictures)
        await context.backups.note(made.latest)
        return made

    made = run_operation(work, activity="Copying the ledger", changes=False)
    _print_made(file, made, json)


async def write_backup(
    context: "OperatorContext", out: BinaryIO, *, pictures: bool = False, moved: bool = False
) -> "Backup":
    """`moved`: the ledger was closed because it moves. Raises `LedgerUnavailable`, `OSError`."""
    from app.recovery.take_backup import (  # noqa: PLC0415 - loads the Redis client
        BackupTerms,
        take_backup,
    )

    shown: list[CopyProgress] = []

    def begin(writer: "BackupWriter", expected: int | None) -> Callable[[], None]:
        progress = CopyProgress("Copied", expected)
        shown.append(progress)
        return lambda: progress.report(writer.counts["entry"], writer.size_bytes)

    directory = context.settings.data_dir / "images" if pictures else None
    terms = BackupTerms(koi_version=koi_version(), pictures=directory, moved=moved)
    made = await take_backup(context.scripts, out, terms, begin)
    for progress in shown:
        progress.end()
    return made


def _record(made: "Backup") -> dict[str, object]:
    counts = made.end.counts
    return {
        "taken": format_time(made.end.taken_ms),
        "sequence": made.end.seq,
        "epoch": made.end.epoch,
        "entries": counts.get("entry", 0),
        "pictures": counts.get("picture", 0),
        "bytes": made.size_bytes,
    }


def _print_made(file: str, made: "Backup", json: bool) -> None:
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
        print_json({"file": file, **_record(made)})
    else:
        print_line(sentence)
