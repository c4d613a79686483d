"""`koi apply`: users, teams, keys and their limits from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.options import AsJson, Reason
from app.cli.output import format_cell, print_json, print_line, print_notice
from app.cli.session import run_operation
from app.domain.limits import Limits
from app.service.configuration import (
    Configuration,
    ConfigurationPlan,
    PlannedAction,
    PlannedChange,
    show_value,
)
from app.service.configuration_file import ConfigurationInvalid, parse_configuration

if TYPE_CHECKING:
    from app.service.keys import IssuedKey
    from app.wiring.operator import OperatorContext

SIGNS = {PlannedAction.CREATE: "+", PlannedAction.UPDATE: "~", PlannedAction.DELETE: "-"}


def apply(
    *,
    file: Annotated[Path, Parameter(name=["--file", "-f"], help="A TOML file.")],
    dry_run: Annotated[bool, Parameter(help="Show the difference, change nothing.")] = False,
    check: Annotated[
        bool, Parameter(help="The same, and exit with 1 when there is a difference.")
    ] = False,
    prune: Annotated[
        bool, Parameter(help="Also delete users, teams and keys that the file does not name.")
    ] = False,
    reason: Reason = "",
    json: AsJson = False,
) -> int:
    """Make users, teams, keys and limits what a file says.

    The difference is shown first.
    What the file names is exactly as it says; a limit that is left out is unlimited, for a user the
    default (KOI_DEFAULT_…). Everything is checked before anything is written, and doing it again
    changes nothing. Keys without a digest are issued and printed once. deploy/people.toml is an
    example, deploy/people.schema.json describes every field.

    Example: koi apply -f people.toml --dry-run
             koi apply -f people.toml --prune --reason "the new term"
             koi apply -f people.toml --check
    """

    async def work(context: "OperatorContext") -> int:
        wanted = _read_configuration(file, context.settings.default_limits)
        plan = ConfigurationPlan(context.changing(reason))
        changes = await plan.compare(wanted, prune=prune)
        archived = await plan.find_archived(wanted)
        idle = dry_run or check
        if not json:
            print_changes(changes)
        issued = [] if idle else await plan.carry_out(changes)
        if json:
            print_json({"changes": [record_change(one) for one in changes], "applied": not idle,
                        "archived_teams": archived,
                        "keys": [_issued_record(one) for one in issued]})  # fmt: skip
        else:
            _print_issued(issued)
            for name in archived:
                print_notice(
                    f"Team {name} is archived, so all keys of its users are refused: "
                    f"koi teams restore {name}"
                )
        return EXIT_FAILED if check and (changes or archived) else 0

    return run_operation(work, changes=not (dry_run or check))


def _read_configuration(path: Path, defaults: Limits) -> Configuration:
    try:
        text = path.read_text(encoding="utf-8")
        return parse_configuration(text, str(path), defaults)
    except OSError as error:
        raise usage_error(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise usage_error(f"{path} is no TOML: {error}") from None
    except ConfigurationInvalid as error:
        raise usage_error(str(error)) from None


def print_changes(changes: Sequence[PlannedChange]) -> None:
    if not changes:
        print_line("Nothing differs.")
    for change in changes:
        values = ", ".join(_text(*item) for item in change.changes.items())
        line = f"{SIGNS[change.action]} {change.target}{': ' if values else ''}{values}"
        print_line(format_cell(line))


def _text(name: str, pair: tuple[Any, Any]) -> str:
    old, new = (show_value(name, value) for value in pair)
    return f"{name.replace('micros', 'budget')} {old} -> {new}"


def _print_issued(issued: "Sequence[IssuedKey]") -> None:
    for one in issued:
        print_line(f"{one.secret}  # {one.key.id}, {format_cell(one.key.name)} of {one.key.user}")
    if issued:
        print_notice("Keep the keys: they are not shown again.")


def record_change(change: PlannedChange) -> dict[str, Any]:
    changes = {
        name.replace("micros", "budget"): [show_value(name, value) for value in pair]
        for name, pair in change.changes.items()
    }
    return {"action": change.action, "target": change.target, "changes": changes}


def _issued_record(issued: "IssuedKey") -> dict[str, Any]:
    key = issued.key
    return {"key": issued.secret, "key_id": key.id, "user": key.user, "name": key.name}
