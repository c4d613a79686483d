"""`koi import`: users, teams and limits from the exports of another gateway."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from app.cli.apply import print_changes, record_change
from app.cli.errors import usage_error
from app.cli.key_file import KeyFile
from app.cli.options import AsJson
from app.cli.output import format_cell, print_json, print_line, print_notice
from app.cli.session import run_operation
from app.moving.litellm import read_litellm
from app.moving.merge import merge_accounts
from app.moving.new_api import read_new_api
from app.moving.terms import DAY, MONTH, MovedAccounts, MovingTerms
from app.service.configuration import ConfigurationPlan, PlannedChange

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

importing = App(
    name="import", help="Take over users, teams and limits from LiteLLM or new-api, not their keys."
)
Files = Annotated[list[Path], Parameter(help="The exports; lists in pages are several files.")]
QUOTA_WINDOWS = {"day": DAY, "month": MONTH, None: None}
MOST_NAMES = 5
"""Named in one line of text; JSON has all."""


@Parameter(name="*")
@dataclass(frozen=True)
class ImportOptions:
    """What both imports take."""

    dry_run: Annotated[bool, Parameter(help="Show the difference, change nothing.")] = False
    keys: Annotated[
        Path | None,
        Parameter(help="Also make a new key for each old one, into this new file (CSV, 0600)."),
    ] = None
    rate: Annotated[
        str | None,
        Parameter(help="What one US dollar is in the catalog's currency; without it no budgets."),
    ] = None


DEFAULTS = ImportOptions()
Read = Callable[[Sequence[Path], MovingTerms], MovedAccounts]


@importing.command
def litellm(files: Files, /, *, options: ImportOptions = DEFAULTS, json: AsJson = False) -> None:
    """Take over LiteLLM's users, teams and limits.

    The files are what /user/list, /team/list and /key/list?return_full_object=true answer, or the
    tables as JSON. Budgets by the day and by the month, requests per minute, parallel requests,
    models and blocked teams are carried; what has no counterpart is named. Keys are known to their
    holders only: --keys makes new ones. Doing it again changes nothing.

    Example: koi import litellm users.json teams.json keys.json --rate 7.1 --dry-run
             koi import litellm users.json teams.json keys.json --rate 7.1 --keys new-keys.csv
    """
    _import("litellm", read_litellm, files, options, None, json=json)


@importing.command(name="new-api")
def new_api(
    files: Files,
    /,
    *,
    options: ImportOptions = DEFAULTS,
    quota_per: Annotated[
        Literal["day", "month"] | None,
        Parameter(help="Make what is left of a balance a budget that begins anew so often."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Take over new-api's users and groups.

    The files are what /api/user/, /api/token/ and /api/status answer, or the SQLite file, which is
    only read. A group becomes a team. A quota is a balance there and no limit here begins with a
    balance, so it is named, or made a budget by --quota-per. Keys are as for litellm.

    Example: koi import new-api one-api.db --dry-run
             koi import new-api one-api.db --rate 7.1 --quota-per month --keys new-keys.csv
    """
    _import("new-api", read_new_api, files, options, QUOTA_WINDOWS[quota_per], json=json)


def _import(
    origin: str,
    read: Read,
    files: Sequence[Path],
    options: ImportOptions,
    quota_window: str | None,
    *,
    json: bool,
) -> None:
    rate = None if options.rate is None else _parse_rate(options.rate)
    for path in files:
        _check_readable(path)

    async def work(context: "OperatorContext") -> None:
        known = context.changing(f"import from {origin}")
        terms = MovingTerms(context.catalog, await known.now_ms(), rate, quota_window)
        moved = _read(read, files, terms)
        merged = await merge_accounts(moved.wanted, known, terms.remarks)
        uncarried = len(merged.keys) if options.keys is None else 0
        wanted = merged if options.keys is not None else replace(merged, keys=())
        plan = ConfigurationPlan(known)
        changes = await plan.compare(wanted, prune=False)
        if not json:
            print_changes(changes)
            _print_remarks(moved, uncarried)
        made = 0 if options.dry_run else await _carry_out(plan, changes, options.keys)
        if json:
            print_json({
                "changes": [record_change(one) for one in changes], "applied": not options.dry_run,
                "not_carried": moved.remarks, "keys_not_carried": uncarried, "keys_made": made,
            })  # fmt: skip
        elif made:
            print_notice(f"{made} new keys are in {options.keys}: hand them out, then delete it.")

    run_operation(work, changes=not options.dry_run)


async def _carry_out(
    plan: ConfigurationPlan, changes: Sequence[PlannedChange], path: Path | None
) -> int:
    """How many keys were made. Each is in the file before the next one is made."""
    new = [one for one in changes if one.makes_key]
    if path is None or not new:
        await plan.carry_out(changes)
        return 0
    with KeyFile(path) as file:
        for change in changes:
            for issued in await plan.carry_out([change]):
                file.add(issued)
    return len(new)


def _read(read: Read, files: Sequence[Path], terms: MovingTerms) -> MovedAccounts:
    try:
        return read(files, terms)
    except OSError as error:
        raise usage_error(f"{error.filename} cannot be read ({error.strerror}).") from None


def _check_readable(path: Path) -> None:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise usage_error(f"{path} cannot be read, or is no file.")


def _parse_rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(0)
    if not rate.is_finite() or not 0 < rate < 10**6:
        raise usage_error("--rate must be a number such as 7.1.")
    return rate


def _print_remarks(moved: MovedAccounts, uncarried: int) -> None:
    if moved.remarks or uncarried:
        print_line("Not carried over:")
    for sentence, about in moved.remarks.items():
        more = f", and {len(about) - MOST_NAMES} more" if len(about) > MOST_NAMES else ""
        names = f" [{', '.join(about[:MOST_NAMES])}{more}]" if about else ""
        print_line(format_cell(f"! {sentence}{names}"))
    if uncarried:
        print_line(f"! {uncarried} keys: only their holders know them. --keys FILE makes new ones.")
