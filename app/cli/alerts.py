"""`koi alerts`: a notice is published when a month's spending reaches an amount."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.errors import require_change, usage_error
from app.cli.options import AsJson, Reason
from app.cli.output import format_time, print_json, print_line, print_table
from app.cli.session import run_operation
from app.domain.money import format_micros, parse_micros
from app.domain.principal import HOUSE
from app.domain.spend_alerts import (
    MAX_RECIPIENT_CHARS,
    MAX_RECIPIENTS,
    SpendAlert,
    are_recipients,
)
from app.service.spend_alerts import AlertTerms

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

MICROS_PER_CENT = 10_000

alerts = App(
    name="alerts", help="Have a notice published when a month's spending reaches an amount."
)


@alerts.command(name="list")
def list_(
    *,
    team: Annotated[str | None, Parameter(help="Only this team's.")] = None,
    json: AsJson = False,
) -> None:
    """List spend alerts, the oldest first.

    Example: koi alerts list --team design
    """

    async def work(context: "OperatorContext") -> None:
        scope = None if team is None else f"team:{(await context.keys.team(team)).name}"
        found = await context.spend_alerts.alerts(scope)
        if json:
            print_json([_record(one) for one in found])
        elif found:
            rows = [
                (one.id, one.scope, format_micros(one.threshold_micros), ", ".join(one.recipients))
                for one in found
            ]
            print_table(("alert", "of", context.catalog.currency, "recipients"), rows)
        else:
            print_line("No spend alerts. Make one: koi alerts create 100.00 --team design")

    run_operation(work, changes=False)


@alerts.command(name="create")
def create(
    threshold: Annotated[str, Parameter(help="Money of a calendar month, such as 100.00.")],
    /,
    *,
    team: Annotated[str | None, Parameter(help="Of this team; else of the house.")] = None,
    recipients: Annotated[str, Parameter(help="Whom the notice names, with commas.")] = "",
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Have a notice published when a month's spending reaches an amount.

    It goes where all notices go (KOI_NOTICE_WEBHOOK) and names the recipients; Koi sends no mail.
    Nothing is refused: limits do that (`koi teams set`).

    Example: koi alerts create 100.00 --team design --recipients ops@example.com
    """
    terms = AlertTerms(_parse_threshold(threshold), _parse_recipients(recipients), "")

    async def work(context: "OperatorContext") -> None:
        scope = HOUSE if team is None else f"team:{(await context.keys.team(team)).name}"
        made = await context.spend_alerts.acting_as(reason=reason).create(scope, terms)
        if json:
            print_json(_record(made))
        else:
            amount = f"{format_micros(made.threshold_micros)} {context.catalog.currency}"
            print_line(f"Made {made.id}: a notice when {made.scope} spends {amount} in a month.")

    run_operation(work)


@alerts.command(name="set")
def set_(
    alert_id: str,
    /,
    *,
    threshold: Annotated[str | None, Parameter(help="Money of a calendar month.")] = None,
    recipients: Annotated[str | None, Parameter(help="Whom the notice names.")] = None,
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Change a spend alert. A new threshold is told again in this month.

    Example: koi alerts set alert_0123456789abcdef --threshold 250.00
             koi alerts set alert_0123456789abcdef --recipients ops@example.com,cto@example.com
    """
    micros = None if threshold is None else _parse_threshold(threshold)
    named = None if recipients is None else _parse_recipients(recipients)
    given = micros is not None or named is not None
    require_change("alerts set", given, "--threshold 250.00 or --recipients ops@example.com")

    async def work(context: "OperatorContext") -> None:
        use = context.spend_alerts.acting_as(reason=reason)
        before = await use.find(None, alert_id)
        terms = AlertTerms(
            before.threshold_micros if micros is None else micros,
            before.recipients if named is None else named,
            before.subject_prefix,
        )
        changed = await use.update(before.scope, alert_id, terms)
        if json:
            print_json(_record(changed))
        else:
            amount = f"{format_micros(changed.threshold_micros)} {context.catalog.currency}"
            print_line(f"Changed {changed.id}: a notice when {changed.scope} spends {amount}.")

    run_operation(work)


@alerts.command(name="delete")
def delete(alert_id: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Delete a spend alert: no notice is published for it any more.

    Example: koi alerts delete alert_0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        deleted = await context.spend_alerts.acting_as(reason=reason).delete(None, alert_id)
        if json:
            print_json(_record(deleted))
        else:
            print_line(f"Deleted {deleted.id} of {deleted.scope}.")

    run_operation(work)


def _record(alert: SpendAlert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "scope": alert.scope,
        "threshold": format_micros(alert.threshold_micros),
        "recipients": list(alert.recipients),
        "subject_prefix": alert.subject_prefix or None,
        "created_at": format_time(alert.created_ms),
        "deleted_at": format_time(alert.deleted_ms),
    }


def _parse_threshold(text: str) -> int:
    try:
        micros = parse_micros(text)
    except ValueError as error:
        raise usage_error(f"The amount: {error}; write for example 100.00.") from None
    if micros % MICROS_PER_CENT:
        raise usage_error("The amount has two decimals at most, such as 100.00.")
    return micros


def _parse_recipients(text: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    if not are_recipients(found):
        raise usage_error(
            f"--recipients takes at most {MAX_RECIPIENTS} addresses of {MAX_RECIPIENT_CHARS} "
            "characters."
        )
    return found
