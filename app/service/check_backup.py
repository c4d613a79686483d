"""What `koi doctor` and the console say of backups."""

from app.domain.backup import LatestBackup
from app.domain.calendar import format_time
from app.domain.check_result import CheckResult, ok, warn

OLD_MS = 8 * 86_400_000
"""A weekly backup is never older, save when one was missed."""
MEGABYTE = 1_000_000


def check_backup(found: LatestBackup | None, now_ms: int) -> CheckResult:
    """When the latest one was made. None at all is said, and not complained of: the journal, or
    the server's own backups, may be enough."""
    if found is None:
        return ok("backup", "none is known yet; make one with: koi backup FILE")
    size = format_size(found.size_bytes)
    said = f"the latest is of {format_time(found.taken_ms)}: {found.entries:,} entries, {size}"
    if now_ms - found.taken_ms > OLD_MS:
        return warn("backup", said, "See why no newer one was made: koi backup FILE")
    return ok("backup", said)


def format_size(size_bytes: int) -> str:
    if size_bytes < MEGABYTE:
        return f"{size_bytes / 1000:.1f} KB"
    return f"{size_bytes / MEGABYTE:.1f} MB"
