"""`koi ledger rebuild`: the books put together again after the store lost data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.errors import EXIT_FAILED, CommandFailed, usage_error
from app.cli.options import AsJson, require_text
from app.cli.output import format_time, print_fields, print_json, print_line
from app.cli.session import run_operation
from app.domain.ledger import LedgerAudit
from app.domain.rebuild import JournalGap, RebuildRefused, RebuildReport

if TYPE_CHECKING:
    from app.wiring import OperatorContext

MAX_NAMED = 20

Journals = Annotated[
    list[str] | None,
    Parameter(
        name="--journal",
        help="A journal directory; once for each machine that ran a gateway. "
        "Default: KOI_DATA_DIR/journal.",
        negative=(),
    ),
]


def rebuild(*, journal: Journals = None, json: AsJson = False) -> int:
    """Put the books together again from the journal, after the store lost data.

    Needed when the store was emptied, restored from an old copy or replaced by a stale replica:
    gateways refuse to spend from then on, and go on by themselves once this has run. What the store
    still holds is kept, what only the journal knows is put back: entries, users, teams, keys, open
    jobs and the answers to recent ones. Exits 1 when something is known to be missing, and names
    it: numbers no journal remembers, unreadable lines, journals that wrote and were not given.

    Example: koi ledger rebuild --journal /var/lib/koi/journal --journal /mnt/other-host/journal
    """
    given = None if journal is None else [_parse_directory(text) for text in journal]

    async def work(context: "OperatorContext") -> RebuildOutcome:
        return await rebuild_and_audit(context, given)

    report = run_operation(work, activity="Rebuilding the books", verify=False)
    if json:
        print_json(report.record)
    else:
        print_fields(report.figures)
        report.print_advice()
    return 0 if report.whole else EXIT_FAILED


def _parse_directory(text: str) -> Path:
    require_text("--journal", text)  # as a path, nothing is the directory we are in
    if not Path(text).is_dir():
        raise usage_error(f"{text} is not a directory.")
    return Path(text)


@dataclass(frozen=True, slots=True)
class RebuildOutcome:
    """What a rebuild made, and everything that it could not: each by its name."""

    rebuilt: RebuildReport
    audit: LedgerAudit
    unreadable: Sequence[str]
    unreadable_count: int

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be missing."""
        known = not (self.rebuilt.lost_changes or self.rebuilt.absent or self.rebuilt.blind)
        return known and not (self.unreadable_count or self.audit.differences)

    @property
    def figures(self) -> dict[str, object]:
        rebuilt = self.rebuilt
        return {
            "entries": rebuilt.entries,
            "from journal": rebuilt.from_journal,
            "jobs": rebuilt.jobs,
            "open jobs": rebuilt.open,
            "users teams keys": rebuilt.records,
            "unreadable lines": self.unreadable_count,
            "forgotten": rebuilt.lost_changes,
            "journals not given": len(rebuilt.absent),
            "difference": self.audit.difference,
        }

    @property
    def record(self) -> dict[str, object]:
        figures = {name.replace(" ", "_"): value for name, value in self.figures.items()}
        gaps = [
            {"life": gap.epoch, "first": gap.first, "last": gap.last} for gap in self.rebuilt.gaps
        ]
        absent = [
            {"id": journal.id, "host": journal.host, "path": journal.path,
             "last_written": format_time(journal.last_ms)}
            for journal in self.rebuilt.absent
        ]  # fmt: skip
        return figures | {"gaps": gaps, "absent": absent, "unreadable": list(self.unreadable)}

    def print_advice(self) -> None:
        print_line()
        if self.whole:
            print_line("Nothing is missing. Gateways spend again by themselves.")
            return
        for sentence in self._missing():
            print_line(sentence)
        print_line(
            "Gateways spend again by themselves. If other machines ran gateways or commands, run "
            "this again with their journals too (--journal); then compare with the provider's "
            "bill: koi ledger import-bill."
        )

    def _missing(self) -> Iterator[str]:
        if self.rebuilt.blind:
            yield "No journal was found: nobody knows what the store had lost."
        if self.rebuilt.lost_changes:
            named = ", ".join(map(_format_gap, self.rebuilt.gaps[:MAX_NAMED]))
            more = "" if len(self.rebuilt.gaps) <= MAX_NAMED else ", …"
            yield (
                f"{self.rebuilt.lost_changes} changes happened that no journal here remembers: "
                f"{named}{more}."
            )
        for journal in self.rebuilt.absent:
            yield (
                f"Not given: the journal {journal.location} ({journal.id}, last written "
                f"{format_time(journal.last_ms)})."
            )
        for name in self.unreadable[:MAX_NAMED]:
            yield f"Unreadable: {name}."
        if self.audit.differences:
            yield "The counters differ from the ledger; see `koi ledger check`."


async def rebuild_and_audit(
    context: "OperatorContext", journal: list[Path] | None = None
) -> RebuildOutcome:
    """Raises `CommandFailed` when there is nothing to rebuild, or from nothing."""
    from app.recovery.rebuild import rebuild_ledger  # noqa: PLC0415 - loads the Redis client

    history = context.history(journal)
    try:
        rebuilt = await rebuild_ledger(context.scripts, history, context.terms, history.ids)
    except RebuildRefused as refusal:
        raise CommandFailed(str(refusal)) from refusal
    audit = await context.ledger.audit()
    return RebuildOutcome(rebuilt, audit, history.unreadable_names, history.unreadable)


def _format_gap(gap: JournalGap) -> str:
    span = str(gap.first) if gap.count == 1 else f"{gap.first} to {gap.last}"
    return f"{span} of {f'the life {gap.epoch[:8]}' if gap.epoch else 'an earlier life'}"
