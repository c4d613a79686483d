"""`koi audit`: who changed what, and why."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.errors import usage_error
from app.cli.options import SINCE_HELP, AsJson, parse_names, parse_time_ms
from app.cli.output import format_time, print_json, print_line, print_notice, print_table
from app.cli.session import run_operation
from app.domain.administration import AUDIT_KINDS, AuditQuery, AuditRecord
from app.domain.money import format_micros

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

MAX_LIMIT = 1000
RECORD_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@Parameter(name="*")
@dataclass(frozen=True)
class AuditOptions:
    """Which changes, as typed; several names with commas."""

    since: Annotated[str | None, Parameter(help=SINCE_HELP)] = None
    until: Annotated[str | None, Parameter(help="Before this day or time.")] = None
    user: Annotated[str | None, Parameter(help="Of these users and their keys.")] = None
    team: Annotated[str | None, Parameter(help="Of these teams and all in them.")] = None
    actor: Annotated[str | None, Parameter(help="By these: root, admkey_… or login@host.")] = None
    kind: Annotated[
        str | None, Parameter(help="Of these kinds: user, team.archived, spending …")
    ] = None

    def query(self, zone: ZoneInfo, limit: int, after: str | None) -> AuditQuery:
        return AuditQuery(
            since_ms=0 if self.since is None else parse_time_ms("--since", self.since, zone),
            until_ms=None if self.until is None else parse_time_ms("--until", self.until, zone),
            users=parse_names("--user", self.user),
            teams=parse_names("--team", self.team),
            actors=parse_names("--actor", self.actor),
            kinds=_parse_kinds(self.kind),
            limit=limit,
            after=after,
        )


def audit(
    *,
    which: AuditOptions | None = None,
    limit: Annotated[int, Parameter(help="How many at most.")] = 50,
    after: Annotated[str | None, Parameter(help="Older ones than this record's id.")] = None,
    json: AsJson = False,
) -> None:
    """Show who changed which user, team, key or limit, and why.

    The newest are first. Changes by command and by the administration API are all here. The store
    keeps the newest 100,000; older ones are in the journal.

    Example: koi audit --since 7d
             koi audit --user ann --kind key --json
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise usage_error(f"--limit must be 1 to {MAX_LIMIT}.")
    if after is not None and RECORD_ID.fullmatch(after) is None:
        raise usage_error("--after takes the id of a record, such as 1795000000000-0.")

    async def work(context: "OperatorContext") -> None:
        query = (which or AuditOptions()).query(ZoneInfo(context.settings.timezone), limit, after)
        page = await context.audit_log.page(query)
        if json:
            print_json([_record(record) for record in page.records])
        elif page.records:
            headings = ("when", "who", "what", "whom", "change", "reason")
            print_table(headings, [_row(record) for record in page.records])
        else:
            print_line("No such changes.")
        if page.has_more:
            print_notice(f"There are older ones: koi audit --after {page.records[-1].id}")

    run_operation(work, changes=False)


def _parse_kinds(text: str | None) -> frozenset[str]:
    """Refused when no change is of that kind: nothing found would read as nothing changed."""
    kinds = parse_names("--kind", text)
    for kind in sorted(kinds):
        noun, dot, verb = kind.partition(".")
        if noun not in AUDIT_KINDS:
            raise usage_error(f"--kind knows {', '.join(AUDIT_KINDS)}; not {kind!r}.")
        if dot and verb not in AUDIT_KINDS[noun]:
            known = ", ".join(f"{noun}.{one}" for one in AUDIT_KINDS[noun])
            raise usage_error(f"--kind knows {known}; not {kind!r}.")
    return kinds


def _record(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": format_time(record.at_ms),
        "actor": record.actor,
        "kind": record.kind,
        "target": record.target,
        "user": record.user,
        "team": record.team,
        "changes": {name: list(pair) for name, pair in record.changes.items()},
        "reason": record.reason or None,
    }


def _row(record: AuditRecord) -> tuple[object, ...]:
    changes = (
        f"{name.replace('micros', 'budget')} {_text(name, old)} -> {_text(name, new)}"
        for name, (old, new) in record.changes.items()
    )
    return (
        format_time(record.at_ms),
        record.actor,
        record.kind,
        record.target,
        ", ".join(changes),
        record.reason,
    )


def _text(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if name.startswith("micros"):
        return format_micros(value)
    if name.endswith("_ms"):
        return format_time(value) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
