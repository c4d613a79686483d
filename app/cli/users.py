"""`koi users`: people and apps, and what they may use."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.binding_limits import print_binding_limits
from app.cli.errors import require_change
from app.cli.options import (
    AsJson,
    LimitChanges,
    Reason,
    ResponseFormatOption,
    cache_policy,
    response_format,
)
from app.cli.output import format_time, print_fields, print_json, print_line, print_table
from app.cli.raise_records import raise_text
from app.cli.raises import build_raise_command
from app.cli.records import (
    LIMIT_HEADINGS,
    NOBODY,
    changes_text,
    holder_status,
    key_record,
    key_status,
    limit_cells,
    limit_fields,
    limit_status_records,
    limits_text,
    print_limit_status,
    user_record,
)
from app.cli.session import run_operation
from app.cli.webhook_options import WebhookOptions
from app.domain.principal import Principal, User, at, build_scopes

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

users = App(name="users", help="Create, change and list users and their limits.")

Cache = Annotated[
    str | None, Parameter(help="Whose pictures may answer: off, private, shared, or default.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class UserOptions(WebhookOptions):
    """How a user's requests are answered, as typed; None stays."""

    cache: Cache = None
    pictures: ResponseFormatOption = None

    @property
    def changes(self) -> bool:
        return self.given or self.cache is not None or self.pictures is not None


NO_USER_OPTIONS = UserOptions()
NO_LIMITS = LimitChanges()
users.command(build_raise_command("user", "alice"), name="raise")


@users.command
def create(
    name: str,
    /,
    *,
    team: Annotated[str | None, Parameter(help="A team that exists.")] = None,
    user: UserOptions = NO_USER_OPTIONS,
    limits: LimitChanges = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Create a user, with the default limits (KOI_DEFAULT_…) where none are given.

    Example: koi users create alice --team art --images-per-day 50 --budget-per-month 200
    """

    async def work(context: "OperatorContext") -> None:
        chosen = limits.apply_to(context.settings.default_limits)
        url = user.choose(context) if user.given else None
        made = await context.changing(limits.reason).create_user(
            name,
            team=team,
            limits=chosen,
            cache=cache_policy(user.cache),
            response_format=response_format(user.pictures),
        )
        if url is not None:
            made = await context.changing(limits.reason).set_user_webhook(name, url)
        _print_user(made, context, "Created", json)
        await print_binding_limits(context, made)

    run_operation(work)


@users.command(name="set")
def set_(
    name: str,
    /,
    *,
    team: Annotated[str | None, Parameter(help='A team that exists, or "none".')] = None,
    user: UserOptions = NO_USER_OPTIONS,
    limits: LimitChanges = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Change a user; what is not named stays, `unlimited` clears a limit.

    Example: koi users set alice --images-per-day unlimited --concurrency 4
    """

    given = limits.given or user.changes or team is not None
    require_change("users set", given, "--images-per-day 50, --team NAME or --cache off")

    async def work(context: "OperatorContext") -> None:
        before = await context.keys.user(name)
        url = user.choose(context) if user.given else None
        changed = await context.changing(limits.reason).set_user(
            name,
            team=_parse_team(team, before.team),
            limits=limits.apply_to(before.limits),
            cache=cache_policy(user.cache, before.cache),
            response_format=response_format(user.pictures, before.response_format),
        )
        if user.given:
            changed = await context.changing(limits.reason).set_user_webhook(name, url)
        if json:
            print_json(user_record(changed, context.catalog.currency))
        else:
            text = changes_text(_settings(before), _settings(changed))
            print_line(f"Changed user {name}: {text}.")
        await print_binding_limits(context, changed)

    run_operation(work)


@users.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List users and their limits.

    Example: koi users list --json
    """

    async def work(context: "OperatorContext") -> None:
        found = sorted(await context.keys.users(), key=lambda user: user.name)
        if json:
            print_json([user_record(user, context.catalog.currency) for user in found])
        elif found:
            rows = [
                (u.name, u.team, holder_status(u), u.cache, *limit_cells(u.limits)) for u in found
            ]
            print_table(("user", "team", "status", "cache", *LIMIT_HEADINGS), rows)
        else:
            print_line("No users yet. Create one with a key: koi keys create --user alice --new")

    run_operation(work, changes=False)


@users.command
def show(name: str, /, *, json: AsJson = False) -> None:
    """Show a user: limits, what is used and held of them, and keys.

    Example: koi users show alice
    """

    async def work(context: "OperatorContext") -> None:
        now_ms = await context.keyring.now_ms()
        user = at(now_ms, await context.keys.user(name))
        limit_snapshot = await context.usage.read_limits(await _principal(context, user))
        keys = await context.keys.keys(name)
        currency = context.catalog.currency
        if json:
            record: dict[str, Any] = user_record(user, currency)
            record["standing"] = limit_status_records(limit_snapshot, context.catalog)
            record["keys"] = [key_record(key, now_ms, currency=currency) for key in keys]
            print_json(record)
            return
        print_fields(_fields(user))
        print_line()
        print_limit_status(limit_snapshot, context.catalog)
        print_line()
        rows = [(key.id, key.name, key_status(key, now_ms)) for key in keys]
        print_table(("key", "name", "status"), rows)

    run_operation(work, changes=False)


@users.command
def disable(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Let none of a user's keys work until `koi users enable`; gateways notice within five seconds.

    What already runs is finished, and what was used stays in the ledger.

    Example: koi users disable alice
    """
    _set_disabled(name, reason, json, disabled=True)


@users.command
def enable(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Let a disabled user's keys work again.

    Example: koi users enable alice
    """
    _set_disabled(name, reason, json, disabled=False)


@users.command
def delete(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Revoke a user's keys for good and take the name off the lists.

    The ledger keeps what was used. The name may be given to a new user later, who finds what is
    used of this day and month already counted.

    Example: koi users delete alice
    """

    async def work(context: "OperatorContext") -> None:
        revoked = await context.changing(reason).delete_user(name)
        if json:
            print_json({"name": name, "deleted": True, "keys_revoked": revoked})
        else:
            print_line(f"Deleted user {name}; {revoked} keys revoked.")

    run_operation(work)


def _set_disabled(name: str, reason: str, json: bool, *, disabled: bool) -> None:
    async def work(context: "OperatorContext") -> None:
        user = await context.changing(reason).disable_user(name, disabled=disabled)
        _print_user(user, context, "Disabled" if disabled else "Enabled", json)

    run_operation(work)


async def _principal(context: "OperatorContext", user: User) -> Principal:
    """The user as seen by a key of theirs that has no limits of its own."""
    settings = context.settings
    now_ms = await context.keyring.now_ms()
    team = None if user.team is None else at(now_ms, await context.keys.team(user.team))
    scopes = build_scopes(settings.house_limits, user=user, team=team)
    return Principal(NOBODY, user.name, user.team, scopes, user.cache or settings.cache_policy)


def _parse_team(text: str | None, before: str | None) -> str | None:
    if text is None:
        return before
    return None if text.lower() == "none" else text


def _print_user(user: User, context: "OperatorContext", done: str, json: bool) -> None:
    if json:
        print_json(user_record(user, context.catalog.currency))
    else:
        print_line(f"{done} user {user.name}: {limits_text(user.limits)}.")


def _settings(user: User) -> dict[str, object]:
    """What `set` may change."""
    return {
        "team": user.team,
        "cache": user.cache or "default",
        "response format": user.response_format or "default",
        "webhook": user.webhook or "none",
        **limit_fields(user.limits),
    }


def _fields(user: User) -> dict[str, object]:
    return {
        "user": user.name,
        "team": user.team,
        "cache": user.cache or "default",
        "response format": user.response_format or "default",
        "webhook": user.webhook,
        "status": holder_status(user),
        "created": format_time(user.created_ms),
        "raised": user.raised and raise_text(user.raised),
    }
