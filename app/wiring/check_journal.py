"""What `koi doctor` checks of the journal and of the outbox: files are read, nothing is changed."""

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.adapters.journal.id_file import read_journal_id
from app.adapters.journal.outbox import inspect_outbox
from app.adapters.journal.reader import JournalHistory
from app.domain.calendar import format_time
from app.domain.check_result import CheckResult, fail, ok, warn
from app.wiring.stores import journal_directory

if TYPE_CHECKING:
    from app.domain.journal import RegisteredJournal
    from app.settings import Settings

MAX_WAIT_S = 120.0
MAX_NAMED = 5


def check_journal(settings: "Settings") -> Iterator[CheckResult]:
    directory = journal_directory(settings)
    yield from _check_records(directory)
    yield from check_outbox(directory / "owed")


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


def _check_records(directory: Path) -> Iterator[CheckResult]:
    history = JournalHistory([directory])
    records = sum(1 for _ in history)
    if not history.unreadable:
        yield ok("journal", f"{records} changes of the ledger can be read back from {directory}")
        return
    named = "; ".join(history.unreadable_names[:MAX_NAMED])
    yield warn(
        "journal",
        f"{history.unreadable} lines or files beside {records} good ones cannot be read ({named})",
        "A machine that lost power leaves half a line; more than that is a damaged disk or a "
        "newer version's journal. Restore these files from a backup; move other files elsewhere.",
    )


def check_outbox(directory: Path) -> Iterator[CheckResult]:
    """Settlements that the store was not told."""
    found = inspect_outbox(directory)
    bad = [*found.unreadable, *found.damaged]
    if bad:
        yield fail(
            "owed",
            f"{len(bad)} settlements in {directory} cannot be read or were refused "
            f"({', '.join(bad[:MAX_NAMED])}): what they charge is not in the ledger",
            "Repair a file and move it back to owed/ as task_….json; else compare with the "
            "provider's bill (koi ledger import-bill), correct the ledger, and delete it.",
        )
    waited_s = time.time() - found.oldest_s if found.oldest_s is not None else 0.0
    if waited_s > MAX_WAIT_S:
        yield warn(
            "owed",
            f"{found.waiting} settlements have not reached the store, the oldest for "
            f"{waited_s / 60:.0f} minutes",
            "Start a gateway on this data directory and check its store: until then the ledger "
            "charges too little.",
        )
