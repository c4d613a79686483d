"""The doctor's look at the journal and at what is owed: files only, nothing is moved."""

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.adapters.journal.id_file import read_journal_id
from app.adapters.journal.outbox import OutboxFiles, inspect_outbox
from app.adapters.journal.reader import JournalHistory
from app.cli.check_result import CheckResult, fail, ok, warn
from app.cli.output import format_time
from app.wiring.stores import journal_directory

if TYPE_CHECKING:
    from app.domain.journal import RegisteredJournal
    from app.settings import Settings

MAX_WAIT_S = 120.0
MAX_NAMED = 5


def check_journal(settings: "Settings") -> Iterator[CheckResult]:
    directory = journal_directory(settings)
    yield from _check_lines(directory)
    yield from _check_outbox(directory / "owed", inspect_outbox(directory / "owed"))


def check_journals(
    settings: "Settings", known: "Sequence[RegisteredJournal]"
) -> Iterator[CheckResult]:
    """Journals that the store knows to have been in this directory, and that are not any more."""
    directory = journal_directory(settings)
    place = (socket.gethostname(), str(directory.absolute()))
    own = read_journal_id(directory)
    for journal in known:
        if (journal.host, journal.path) == place and journal.id != own:
            yield warn(
                "journal",
                f"a journal that was in {directory} is gone ({journal.id}, last written "
                f"{format_time(journal.last_ms)}): the store has no second copy of what it held",
                "Put it back from a backup, so that `koi ledger rebuild` finds everything.",
            )


def _check_lines(directory: Path) -> Iterator[CheckResult]:
    history = JournalHistory([directory])
    steps = sum(1 for _ in history)
    if not history.unreadable:
        yield ok("journal", f"{steps} writes of the books can be read back from {directory}")
        return
    named = "; ".join(history.unreadable_names[:MAX_NAMED])
    yield warn(
        "journal",
        f"{history.unreadable} lines or files beside {steps} good ones cannot be read ({named})",
        "A machine that lost power leaves half a line; more than that is a damaged disk or a newer "
        "version's journal. Restore these files from a backup, move what is no journal elsewhere.",
    )


def _check_outbox(directory: Path, found: OutboxFiles) -> Iterator[CheckResult]:
    bad = [*found.unreadable, *found.damaged]
    if bad:
        yield fail(
            "owed",
            f"{len(bad)} settlements in {directory} cannot be read or were refused "
            f"({', '.join(bad[:MAX_NAMED])}): what they say is not in the books",
            "Mend a file and move it back to owed/ as task_….json; else compare with the "
            "provider's bill (koi ledger import-bill), correct the books, and delete it.",
        )
    waited_s = time.time() - found.oldest_s if found.oldest_s is not None else 0.0
    if waited_s > MAX_WAIT_S:
        yield warn(
            "owed",
            f"{found.waiting} settlements wait to be told to the store, the oldest for "
            f"{waited_s / 60:.0f} minutes",
            "Start a gateway on this data directory, and see that its store answers.",
        )
