"""Reading the file of a backup: what it holds, and what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.errors import CommandFailed, translate_errors
from app.cli.output import format_time, print_fields, print_json
from app.cli.progress import CopyProgress
from app.service.check_backup import format_size

if TYPE_CHECKING:
    from app.recovery.restore import BackupContents


def check_file(path: Path) -> "BackupContents":
    """Read a backup to its end. Raises `CommandFailed`."""
    from app.recovery.backup_file import BackupReader, RowKind  # noqa: PLC0415 - heavy
    from app.recovery.restore import check_backup  # noqa: PLC0415

    with translate_errors(), explained_file(path):
        reader = BackupReader(path)
        progress, entries = CopyProgress("Read", reader.header.entries), 0

        def report(row: list[Any]) -> None:
            nonlocal entries
            entries += row[0] == RowKind.ENTRY
            progress.report(entries, reader.read_bytes)

        found = check_backup(reader, report)
        progress.end()
        return found


@contextmanager
def explained_file(path: Path) -> Iterator[None]:
    """What is wrong with the file, as `CommandFailed`."""
    from app.domain.rebuild import RebuildRefused  # noqa: PLC0415 - heavy
    from app.recovery.backup_file import BackupDamaged  # noqa: PLC0415
    from app.recovery.restore import RestoreRefused  # noqa: PLC0415

    try:
        yield
    except (BackupDamaged, RestoreRefused, RebuildRefused) as refusal:
        raise CommandFailed(str(refusal)) from refusal
    except OSError as error:
        if error.filename is None or Path(str(error.filename)) != path:
            raise
        raise CommandFailed(
            f"{path} cannot be read ({error.strerror}). This command runs as the owner of "
            "KOI_DATA_DIR: let that user read it."
        ) from error


def contents_record(found: "BackupContents") -> dict[str, object]:
    header, end = found.header, found.end
    return {
        "taken": format_time(end.taken_ms),
        "koi_version": header.koi_version,
        "data_version": header.data_version,
        "epoch": end.epoch,
        "sequence": end.seq,
        "entries": found.entries,
        "open_jobs": found.open_jobs,
        "users": found.users,
        "teams": found.teams,
        "keys": found.keys,
        "pictures": found.pictures,
        "picture_bytes": found.picture_bytes,
    }


def print_contents(found: "BackupContents", json: bool) -> None:
    record = contents_record(found)
    if json:
        print_json(record)
        return
    shown = {name.replace("_", " "): value for name, value in record.items()}
    print_fields(shown | {"picture bytes": format_size(found.picture_bytes)})
