"""`koi ledger rebuild`: the books put together again after the store lost data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import FAILED, CommandFailed, misused
from app.cli.options import AsJson, filled
from app.cli.out import say, say_fields, say_json, time_text
from app.cli.session import in_office
from app.domain.ledger import Audit
from app.domain.rebuild import Gap, RebuildRefused, Rebuilt

if TYPE_CHECKING:
    from app.wiring import Office

MOST_NAMED = 20

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
    given = None if journal is None else [_directory(text) for text in journal]

    async def work(office: "Office") -> Report:
        return await rebuild_books(office, given)

    report = in_office(work, what="Rebuilding the books", verify=False)
    if json:
        say_json(report.record)
    else:
        say_fields(report.figures)
        report.advise()
    return 0 if report.whole else FAILED


def _directory(text: str) -> Path:
    filled("--journal", text)  # as a path, nothing is the directory we are in
    if not Path(text).is_dir():
        raise misused(f"{text} is not a directory.")
    return Path(text)


@dataclass(frozen=True, slots=True)
class Report:
    """What a rebuild made, and everything that it could not: each by its name."""

    rebuilt: Rebuilt
    audit: Audit
    unreadable: Sequence[str]
    unreadable_count: int

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be missing."""
        known = not (self.rebuilt.forgotten or self.rebuilt.absent or self.rebuilt.blind)
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
            "forgotten": rebuilt.forgotten,
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
             "last_written": time_text(journal.last_ms)}
            for journal in self.rebuilt.absent
        ]  # fmt: skip
        return figures | {"gaps": gaps, "absent": absent, "unreadable": list(self.unreadable)}

    def advise(self) -> None:
        say()
        if self.whole:
            say("Nothing is missing. Gateways spend again by themselves.")
            return
        for sentence in self._missing():
            say(sentence)
        say(
            "Gateways spend again by themselves. If other machines ran gateways or commands, run "
            "this again with their journals too (--journal); then compare with the provider's "
            "bill: koi ledger import-bill."
        )

    def _missing(self) -> Iterator[str]:
        if self.rebuilt.blind:
            yield "No journal was found: nobody knows what the store had lost."
        if self.rebuilt.forgotten:
            named = ", ".join(map(_numbers, self.rebuilt.gaps[:MOST_NAMED]))
            more = "" if len(self.rebuilt.gaps) <= MOST_NAMED else ", …"
            yield (
                f"{self.rebuilt.forgotten} changes happened that no journal here remembers: "
                f"{named}{more}."
            )
        for journal in self.rebuilt.absent:
            yield (
                f"Not given: the journal {journal.place} ({journal.id}, last written "
                f"{time_text(journal.last_ms)})."
            )
        for name in self.unreadable[:MOST_NAMED]:
            yield f"Unreadable: {name}."
        if self.audit.differences:
            yield "The counters differ from the ledger; see `koi ledger check`."


async def rebuild_books(office: "Office", journal: list[Path] | None = None) -> Report:
    """Raises `CommandFailed` when there is nothing to rebuild, or from nothing."""
    history = office.history(journal)
    try:
        rebuilt = await office.ledger.rebuild(history, office.terms, history.ids)
    except RebuildRefused as refusal:
        raise CommandFailed(str(refusal)) from refusal
    audit = await office.ledger.audit()
    return Report(rebuilt, audit, history.unreadable_names, history.unreadable)


def _numbers(gap: Gap) -> str:
    span = str(gap.first) if gap.count == 1 else f"{gap.first} to {gap.last}"
    return f"{span} of {f'the life {gap.epoch[:8]}' if gap.epoch else 'an earlier life'}"
