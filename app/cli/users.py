"""`koi users`: people and apps, and what they may use."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.options import AsJson, Format, LimitOptions, cache_policy, response_format
from app.cli.out import say, say_fields, say_json, say_table, time_text
from app.cli.records import (
    LIMIT_HEADINGS,
    NOBODY,
    holder_status,
    key_record,
    key_status,
    limit_cells,
    limits_text,
    say_standing,
    standing_records,
    user_record,
)
from app.cli.session import in_office
from app.domain.limits import Scope, ScopeKind
from app.domain.principal import Principal, User

if TYPE_CHECKING:
    from app.wiring import Office

users = App(name="users", help="Create, change and list users and their limits.")

Cache = Annotated[
    str | None, Parameter(help="Whose pictures may answer: off, private, shared, or default.")
]
NO_LIMITS = LimitOptions()


@users.command
def create(
    name: str,
    /,
    *,
    team: Annotated[str | None, Parameter(help="A team that exists.")] = None,
    cache: Cache = None,
    pictures: Format = None,
    limits: LimitOptions = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Create a user, with the default limits (KOI_DEFAULT_…) where none are given.

    Example: koi users create alice --team art --images-per-day 50 --budget-per-month 200
    """

    async def work(office: "Office") -> None:
        chosen = limits.over(office.settings.default_limits)
        user = await office.keys.create_user(
            name,
            team=team,
            limits=chosen,
            cache=cache_policy(cache),
            response_format=response_format(pictures),
        )
        _say_user(user, office, "Created", json)

    in_office(work)


@users.command(name="set")
def set_(
    name: str,
    /,
    *,
    team: Annotated[str | None, Parameter(help='A team that exists, or "none".')] = None,
    cache: Cache = None,
    pictures: Format = None,
    limits: LimitOptions = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Change a user; what is not named stays, `unlimited` clears a limit.

    Example: koi users set alice --images-per-day unlimited --concurrency 4
    """

    async def work(office: "Office") -> None:
        user = await office.keys.user(name)
        changed = await office.keys.set_user(
            name,
            team=_team(team, user.team),
            limits=limits.over(user.limits),
            cache=cache_policy(cache, user.cache),
            response_format=response_format(pictures, user.response_format),
        )
        _say_user(changed, office, "Changed", json)

    in_office(work)


@users.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List users and their limits.

    Example: koi users list --json
    """

    async def work(office: "Office") -> None:
        found = sorted(await office.keys.users(), key=lambda user: user.name)
        if json:
            say_json([user_record(user, office.catalog.currency) for user in found])
        elif found:
            rows = [
                (u.name, u.team, holder_status(u), u.cache, *limit_cells(u.limits)) for u in found
            ]
            say_table(("user", "team", "status", "cache", *LIMIT_HEADINGS), rows)
        else:
            say("No users yet. Create one with a key: koi keys create --user alice --new")

    in_office(work)


@users.command
def show(name: str, /, *, json: AsJson = False) -> None:
    """Show a user: limits, what is used and held of them, and keys.

    Example: koi users show alice
    """

    async def work(office: "Office") -> None:
        user = await office.keys.user(name)
        standing = await office.usage.standing(await _principal(office, user))
        keys = await office.keys.keys(name)
        now_ms = await office.keyring.now_ms()
        currency = office.catalog.currency
        if json:
            record: dict[str, Any] = user_record(user, currency)
            record["standing"] = standing_records(standing, currency)
            record["keys"] = [key_record(key, currency, now_ms) for key in keys]
            say_json(record)
            return
        say_fields(_fields(user))
        say()
        say_standing(standing)
        say()
        rows = [(key.id, key.name, key_status(key, now_ms)) for key in keys]
        say_table(("key", "name", "status"), rows)

    in_office(work)


@users.command
def disable(name: str, /, *, json: AsJson = False) -> None:
    """Let none of a user's keys work until `koi users enable`; gateways notice within five seconds.

    What already runs is finished, and what was used stays in the ledger.

    Example: koi users disable alice
    """
    _switch(name, json, disabled=True)


@users.command
def enable(name: str, /, *, json: AsJson = False) -> None:
    """Let a disabled user's keys work again.

    Example: koi users enable alice
    """
    _switch(name, json, disabled=False)


@users.command
def delete(name: str, /, *, json: AsJson = False) -> None:
    """Revoke a user's keys for good and take the name off the lists.

    The ledger keeps what was used. The name may be given to a new user later, who finds what is
    used of this day and month already counted.

    Example: koi users delete alice
    """

    async def work(office: "Office") -> None:
        revoked = await office.keys.delete_user(name)
        if json:
            say_json({"name": name, "deleted": True, "keys_revoked": revoked})
        else:
            say(f"Deleted user {name}; {revoked} keys revoked.")

    in_office(work)


def _switch(name: str, json: bool, *, disabled: bool) -> None:
    async def work(office: "Office") -> None:
        user = await office.keys.disable_user(name, disabled=disabled)
        _say_user(user, office, "Disabled" if disabled else "Enabled", json)

    in_office(work)


async def _principal(office: "Office", user: User) -> Principal:
    """The user as any of its keys would stand, were the key itself without limits."""
    settings = office.settings
    scopes = [Scope(ScopeKind.USER, user.name, user.limits)]
    if user.team is not None:
        team = await office.keys.team(user.team)
        scopes.append(Scope(ScopeKind.TEAM, team.name, team.limits))
    scopes.append(Scope(ScopeKind.HOUSE, "house", settings.house_limits))
    cache = user.cache or settings.cache_policy
    return Principal(NOBODY, user.name, user.team, tuple(scopes), cache)


def _team(text: str | None, before: str | None) -> str | None:
    if text is None:
        return before
    return None if text.lower() == "none" else text


def _say_user(user: User, office: "Office", done: str, json: bool) -> None:
    if json:
        say_json(user_record(user, office.catalog.currency))
    else:
        say(f"{done} user {user.name}: {limits_text(user.limits)}.")


def _fields(user: User) -> dict[str, object]:
    return {
        "user": user.name,
        "team": user.team,
        "cache": user.cache or "default",
        "response format": user.response_format or "default",
        "status": holder_status(user),
        "created": time_text(user.created_ms),
    }
