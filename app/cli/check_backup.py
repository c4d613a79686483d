"""What `koi doctor` says of backups."""

from typing import TYPE_CHECKING

from app.cli.output import format_time
from app.cli.progress import format_size
from app.domain.check_result import CheckResult, ok, warn

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

OLD_MS = 8 * 86_400_000
"""A weekly backup is never older, save when one was missed."""


async def check_backup(context: "OperatorContext") -> list[CheckResult]:
    """When the latest one was made. None at all is said, and not complained of: the journal, or
    the server's own backups, may be enough."""
    found = await context.backups.latest()
    if found is None:
        return [ok("backup", "none is known yet; make one with: koi backup FILE")]
    size = format_size(found.size_bytes)
    said = f"the latest is of {format_time(found.taken_ms)}: {found.entries:,} entries, {size}"
    if await context.keyring.now_ms() - found.taken_ms > OLD_MS:
        return [warn("backup", said, "See why no newer one was made: koi backup FILE")]
    return [ok("backup", said)]
