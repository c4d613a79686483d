"""`koi ledger rebuild`: the books put together again after the store lost data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import FAILED, CommandFailed, misused
from app.cli.options import AsJson
from app.cli.out import say, say_fields, say_json
from app.cli.session import in_office
from app.domain.ledger import Audit
from app.domain.rebuild import RebuildRefused, Rebuilt

if TYPE_CHECKING:
    from app.wiring import Office

Journals = Annotated[
    list[Path] | None,
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
    jobs and the answers to recent ones. Exits 1 when changes are known to be missing.

    Example: koi ledger rebuild --journal /var/lib/koi/journal --journal /mnt/other-host/journal
    """
    for directory in journal or ():
        if not directory.is_dir():
            raise misused(f"{directory} is not a directory.")

    async def work(office: "Office") -> tuple[Rebuilt, Audit, int]:
        history = office.history(journal)
        try:
            rebuilt = await office.ledger.rebuild(history, office.terms)
        except RebuildRefused as refusal:
            raise CommandFailed(str(refusal)) from None
        return rebuilt, await office.ledger.audit(), history.unreadable

    rebuilt, audit, unreadable = in_office(work, what="Rebuilding the books")
    record = {
        "entries": rebuilt.entries,
        "from_journal": rebuilt.from_journal,
        "jobs": rebuilt.jobs,
        "open_jobs": rebuilt.open,
        "users_teams_keys": rebuilt.records,
        "unreadable_lines": unreadable,
        "forgotten": rebuilt.forgotten,
        "difference": audit.difference,
    }
    if json:
        say_json(record)
    else:
        say_fields({name.replace("_", " "): value for name, value in record.items()})
        _advise(rebuilt)
    return FAILED if rebuilt.forgotten or audit.differences else 0


def _advise(rebuilt: Rebuilt) -> None:
    say()
    if rebuilt.forgotten:
        say(
            f"{rebuilt.forgotten} changes happened that no journal here remembers. If other "
            "machines ran gateways, run this again with their journals too (--journal); then "
            "compare with the provider's bill: koi ledger import-bill."
        )
    else:
        say("Nothing is missing. Gateways spend again by themselves.")
