"""Who may administer: the admin key of the settings, or an admin key with the scope of a route."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import (
    authenticate_request,
    equal_in_constant_time,
    extract_api_key,
    find_session,
    is_digest_of,
)
from app.api.errors import unknown_url_error
from app.api.organization.refusals import translate
from app.api.request_body import get_body_bytes
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.administration import (
    ROOT,
    Actor,
    ActorKind,
    AdminKey,
    AdminScope,
    InsufficientPermissions,
    allows,
)
from app.domain.errors import (
    AdminKeyRequired,
    InvalidApiKey,
    InvalidRequest,
)
from app.domain.limits import Limits
from app.domain.principal import CachePolicy, Principal, Team, is_enabled
from app.domain.session import Session, SessionRole
from app.domain.team_bounds import TeamBounds
from app.service import admin_errors
from app.service.admin_keys import AdminKeys, actor_of
from app.service.gateway import Gateway
from app.service.keys import KeyAdmin
from app.service.team_views import hold_to_team

REASON_HEADER = "x-koi-reason"
"""Why a change is made, for the audit log; percent-encoded where it is not ASCII."""
ROOT_KEY = AdminKey(ROOT, "KOI_ADMIN_KEY", "", frozenset({AdminScope.ALL}), 0)
"""The admin key of the settings, which has no record."""
ROOT_ACTOR = actor_of(ROOT_KEY)

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who sent this request, and the use cases that act in their name. With `bounds` these know
    one team only."""

    actor: Actor
    scopes: frozenset[AdminScope]
    gateway: Gateway
    reason: str
    bounds: TeamBounds | None = None

    @property
    def keys(self) -> KeyAdmin:
        return self.gateway.keys.acting_as(self.actor, self.reason)

    @property
    def admin_keys(self) -> AdminKeys:
        return self.gateway.admin_keys.acting_as(self.actor, self.reason)

    def home(self, team: str | None) -> str | None:
        """The team that a new user goes into: the one that is named, else the one team there is."""
        return team or (None if self.bounds is None else self.bounds.team)

    async def require_money_to_relax(self, scope: str, team: Team | None = None) -> None:
        """Whoever ends a stop of this scope, or takes people out of a team's limits, needs `money`,
        and may act on the whole deployment. Raises `InsufficientPermissions`."""
        is_stopped = any(stop.scope == scope for stop in await self.keys.stops())
        if is_stopped and self.bounds is not None:
            raise self.bounds.refusal()
        if is_stopped or (team is not None and team.is_limited):
            self.require(AdminScope.MONEY)

    async def limits_of_reused_name(self, name: str) -> Limits | None:
        """The limits of a deleted user hold for the next one of that name, unless who makes it may
        change limits; None are the default ones."""
        if self.bounds is None and allows(self.scopes, AdminScope.MONEY):
            return None
        users = await self.keys.all_users()
        old = next((user for user in users if user.name == name and user.deleted_ms), None)
        if old is None:
            return None
        teams = {team.name: team for team in await self.keys.teams()}
        if old.team in teams and teams[old.team].is_limited:
            self.require(AdminScope.MONEY)
        return old.limits

    async def charge_read(self, tokens: float) -> None:
        """Count an expensive list as several readings. Raises `RateLimited`."""
        if self.actor != ROOT_ACTOR:
            await self.gateway.rate_limiter.check_read_rate(_caller(self.actor), tokens)

    def require(self, scope: AdminScope) -> None:
        """Raises `InsufficientPermissions`."""
        if not allows(self.scopes, scope):
            raise InsufficientPermissions(
                f"You have insufficient permissions for this operation. Missing scopes: {scope}. "
                "Nothing was changed; use an admin key that has this scope."
            )


Handler = Callable[[Request, Administrator], Awaitable[Response]]


def admin_route(
    scope: AdminScope, *, for_team_admins: bool = False
) -> Callable[[Handler], Endpoint]:
    """A route for administrators whose key has this scope. Those who are held to a team may call it
    if it says so: then all that its handler reads and changes comes from `Administrator.gateway`.
    """

    def decorate(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            administrator = await authenticate_administrator(request)
            administrator.require(scope)
            if administrator.bounds is not None and not for_team_admins:
                raise administrator.bounds.refusal()
            try:
                return await handler(request, administrator)
            except admin_errors.AdminError as error:
                raise translate(error) from error

        # Not `functools.wraps`: the schema would take the second parameter for a query's.
        endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
        return endpoint

    return decorate


async def authenticate_administrator(request: Request) -> Administrator:
    """Lets admin keys through, and sessions that stand for one. Without an admin key in the
    settings these URLs exist for holders of an admin key of `koi admin-keys` only. A user's key is
    told that it is no admin key.

    Raises `InvalidApiKey`, `AdminKeyRequired`, `RateLimited`, `CrossOriginRefused`, and
    `unknown_url`.
    """
    gateway = get_app_state(request).gateway
    found = await _find_admin(request)
    reason = unquote(request.headers.get(REASON_HEADER, ""))
    if found is None:
        if not _is_administration_open(request):
            raise unknown_url_error()
        await authenticate_request(request)
        raise AdminKeyRequired("This route needs an admin key.")
    if found.actor != ROOT_ACTOR:
        await _limit(request, found.actor)
    if found.bounds is None:
        return Administrator(found.actor, found.scopes, gateway, reason)
    held = hold_to_team(gateway, found.bounds)
    return Administrator(found.actor, found.scopes, held, reason, found.bounds)


async def confirm_administrator(request: Request) -> None:
    """A key that ended while its request's body was on the way changes nothing any more. Raises
    `InvalidApiKey`."""
    if await _find_admin(request) is None:
        raise InvalidApiKey("ended")


def _is_administration_open(request: Request) -> bool:
    return get_edge_settings(request).admin_key is not None


@dataclass(frozen=True, slots=True)
class FoundAdmin:
    """An admin key that may be used, or an operator who signed in at the provider; `bounds` hold
    them to a team."""

    actor: Actor
    scopes: frozenset[AdminScope]
    bounds: TeamBounds | None = None


async def _find_admin(request: Request) -> FoundAdmin | None:
    """Who administers, by the key or the session of a request; None when it has another kind of
    key. Raises `InvalidApiKey`, and `unknown_url` for a request without a key where there is no
    administration."""
    session = await find_session(request)
    if session is not None:
        return await find_admin_of_session(request, session)
    try:
        secret = extract_api_key(request)
    except (InvalidApiKey, InvalidRequest):
        if not _is_administration_open(request):
            raise unknown_url_error() from None
        raise
    return await _found(request, await find_admin(request, secret))


async def find_admin_of_session(request: Request, session: Session) -> FoundAdmin | None:
    """The same for a session. Raises `InvalidApiKey`."""
    if session.person is None:
        return await _found(request, await find_admin_by_digest(request, session.key_digest))
    sign_in = get_app_state(request).gateway.sign_in
    if session.role is not SessionRole.OPERATOR or sign_in is None:
        return None
    bounds = await _bounds(request, await sign_in.confirm_operator(session.person))
    return FoundAdmin(Actor(ActorKind.OIDC, session.person.name), session.person.scopes, bounds)


async def _found(request: Request, key: AdminKey | None) -> FoundAdmin | None:
    if key is None:
        return None
    return FoundAdmin(actor_of(key), key.scopes, await _bounds(request, key.team))


async def _bounds(request: Request, name: str | None) -> TeamBounds | None:
    """Nobody administers a team that was disabled, put away or deleted. Raises `InvalidApiKey`."""
    if name is None:
        return None
    team = await get_app_state(request).gateway.keys.find_team(name)
    if team is None or not is_enabled(team):
        raise InvalidApiKey("team_disabled")
    return TeamBounds(name)


async def find_admin(request: Request, secret: str) -> AdminKey | None:
    """The admin key of a secret, or `ROOT_KEY`."""
    root = get_edge_settings(request).admin_key
    if root is not None and equal_in_constant_time(secret, root):
        return ROOT_KEY
    return await get_app_state(request).gateway.admin_keys.authenticate(secret)


async def find_admin_by_digest(request: Request, digest: str) -> AdminKey | None:
    """The same by the SHA-256 of a secret."""
    root = get_edge_settings(request).admin_key
    if root is not None and is_digest_of(digest, root):
        return ROOT_KEY
    return await get_app_state(request).gateway.admin_keys.authenticate_digest(digest)


async def _limit(request: Request, actor: Actor) -> None:
    """The same limits as for a user's key. Raises `RateLimited`."""
    record = get_access_record(request)
    if actor.kind is ActorKind.OIDC:
        record.user = actor.id
    else:
        record.key_id = actor.id
    caller = _caller(actor)
    limiter = get_app_state(request).gateway.rate_limiter
    await limiter.check_rate_limit(caller, get_body_bytes(request))
    if request.method in ("GET", "HEAD"):
        await limiter.check_read_rate(caller)


def _caller(actor: Actor) -> Principal:
    """An administrator as the rate limiter knows callers."""
    return Principal(actor.text, "", None, (), CachePolicy.OFF)
