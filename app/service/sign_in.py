"""Use cases of sign-in by an OpenID provider: begin, come back, be recognised."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.domain.administration import Actor, ActorKind, ProjectArchived
from app.domain.errors import InvalidApiKey, LedgerUnavailable
from app.domain.limits import Limits
from app.domain.ports import KeyRing
from app.domain.principal import CachePolicy, Principal, Team, User, at, build_scopes, is_enabled
from app.domain.session import SessionRole, SignedInPerson
from app.domain.sign_in import (
    OWN_TEAM,
    Grant,
    IdentityProvider,
    LoginSecrets,
    RoleRule,
    SignInRefused,
    find_grant,
)
from app.service.admin_errors import AdminError, NameTaken
from app.service.keys import KeyAdmin
from app.service.login_cookie import LoginCookies
from app.service.sessions import OpenedSession, Sessions
from app.service.teams import NAME_PATTERN

FRESH_S, STALE_S = 3.0, 60.0
"""As long as a key stays known: until the store is asked again, and while it is away."""
MAX_PEOPLE = 10_000
ENDED = "session_ended"


@dataclass(frozen=True, slots=True)
class SignInTerms:
    """Who may sign in. `claim` names people; `creates` makes an unknown member a user with the
    default limits. `id` stands for all of this and for the provider: sessions of other terms have
    ended."""

    id: str
    issuer: str
    cookie_secret: bytes = field(repr=False)
    rules: Sequence[RoleRule]
    claim: Literal["email", "sub"] = "email"
    creates: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """The records of a member, when they came (this process's clock) and what they make."""

    at_s: float
    user: User
    team: Team | None
    principal: Principal


class SignIn:
    """`house` and `cache` as for `Authenticate`."""

    def __init__(
        self,
        provider: IdentityProvider,
        terms: SignInTerms,
        keyring: KeyRing,
        keys: KeyAdmin,
        sessions: Sessions,
        defaults: tuple[Limits, CachePolicy],
    ) -> None:
        self._provider, self._terms = provider, terms
        self.cookies, self.issuer = LoginCookies(terms.cookie_secret), terms.issuer
        self._keyring, self._keys, self._sessions = keyring, keys, sessions
        self._house, self._cache = defaults
        self._members: OrderedDict[str, _Known] = OrderedDict()

    async def begin(self, login: LoginSecrets, redirect_uri: str) -> str:
        """Where the browser is sent. Raises `SignInRefused`."""
        return await self._provider.authorization_url(login, redirect_uri)

    async def finish(self, code: str, login: LoginSecrets, redirect_uri: str) -> OpenedSession:
        """A session for whom the provider names. Raises `SignInRefused`, `LedgerUnavailable`."""
        claims = await self._provider.redeem(code, login, redirect_uri)
        grant = find_grant(self._terms.rules, claims)
        if grant is None:
            raise SignInRefused("no_role")
        person = await self._identify(self._read_name(claims), grant)
        return await self._sessions.open_for(person, grant.role)

    async def principal(self, person: SignedInPerson) -> Principal:
        """What a member may do now. Raises `InvalidApiKey`, `ProjectArchived`,
        `LedgerUnavailable`."""
        self._require_terms(person)
        known = await self._find_member(person.name)
        if known is None or known.user.created_ms != person.user_created_ms:
            raise InvalidApiKey("user_deleted", key_id_of(person.name))
        _require_enabled(known.user, known.team)
        return known.principal

    async def confirm_operator(self, person: SignedInPerson) -> str | None:
        """The team that they are held to; None: no team. Disabling or deleting the user of an
        operator's name ends their sessions (`_counts`); they need no such user, unless they
        administer the team that it is in. While the store is away they stay as long as their
        session is known: they are about to mend that. Raises `InvalidApiKey`."""
        self._require_terms(person)
        try:
            known = await self._find_member(person.name)
        except LedgerUnavailable:
            known = self._members.get(person.name)
        if known is not None and not is_enabled(known.user) and _counts(known.user, person.team):
            raise InvalidApiKey("user_disabled", key_id_of(person.name))
        if person.team != OWN_TEAM:
            return person.team
        if known is None or known.user.created_ms != person.user_created_ms:
            raise InvalidApiKey("user_deleted", key_id_of(person.name))
        if known.user.team is None:
            raise InvalidApiKey("no_team", key_id_of(person.name))
        return known.user.team

    def _require_terms(self, person: SignedInPerson) -> None:
        if person.terms != self._terms.id:
            raise InvalidApiKey(ENDED)

    def _read_name(self, claims: Mapping[str, Any]) -> str:
        """An address counts only when the provider verified it: anybody may claim another's."""
        name = claims.get(self._terms.claim)
        if self._terms.claim == "email" and claims.get("email_verified") is not True:
            raise SignInRefused("no_name", "the e-mail address is not verified")
        if not isinstance(name, str) or NAME_PATTERN.fullmatch(name) is None:
            raise SignInRefused("no_name", f"the claim {self._terms.claim} is no name for a user")
        return name

    async def _identify(self, name: str, grant: Grant) -> SignedInPerson:
        user = await self._keyring.user(name)
        if user is None and grant.role is SessionRole.HOLDER:
            user = await self._create(name)
        whole = grant.role is SessionRole.OPERATOR and grant.team is None
        barred = user is not None and (not is_enabled(user) or user.service_account)
        if barred and user is not None and (not whole or _counts(user, None)):
            raise SignInRefused("disabled")
        if grant.team == OWN_TEAM and (user is None or user.team is None):
            raise SignInRefused("no_role", "a team admin whose user is in no team")
        created_ms = 0 if user is None else user.created_ms
        return SignedInPerson(name, self._terms.id, grant.scopes, created_ms, grant.team)

    async def _create(self, name: str) -> User | None:
        """A user who was deleted is not made anew: that was an operator's decision."""
        if not self._terms.creates:
            raise SignInRefused("unknown")
        try:
            return await self._keys.acting_as(Actor(ActorKind.OIDC, name)).create_user(name)
        except NameTaken:  # by another sign-in at the same moment
            return await self._keyring.user(name)
        except AdminError as error:  # default limits that cannot be kept
            raise SignInRefused("unknown", type(error).__name__) from None

    async def _find_member(self, name: str) -> _Known | None:
        known, now_s = self._members.get(name), time.monotonic()
        if known is not None and now_s - known.at_s < FRESH_S:
            return known
        try:
            return await self._look_up(name, now_s)
        except LedgerUnavailable:
            if known is None or now_s - known.at_s > STALE_S:
                raise
            return known

    async def _look_up(self, name: str, now_s: float) -> _Known | None:
        user = await self._keyring.user(name)
        if user is None:
            return None
        team = None if user.team is None else await self._keyring.team(user.team)
        now_ms = await self._keyring.now_ms()
        principal = self._build_principal(
            at(now_ms, user), None if team is None else at(now_ms, team)
        )
        known = self._members[name] = _Known(now_s, user, team, principal)
        self._members.move_to_end(name)
        if len(self._members) > MAX_PEOPLE:
            self._members.popitem(last=False)
        return known

    def _build_principal(self, user: User, team: Team | None) -> Principal:
        return Principal(
            key_id=key_id_of(user.name),
            user=user.name,
            team=None if team is None else team.name,
            scopes=build_scopes(self._house, user=user, team=team),
            cache=user.cache or self._cache,
            models=None if team is None else team.models,
            denied_models=frozenset() if team is None else team.denied_models,
            response_format=user.response_format,
            webhook=user.webhook,
            person=user.name,
            since_ms=user.reused_ms or 0,
        )


def key_id_of(name: str) -> str:
    """What stands in the ledger where the id of a key does, for who signed in without one."""
    return f"oidc_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _counts(user: User, held_to: str | None) -> bool:
    """Whether a user's record can keep its namesake out who administers this team, or (None) the
    whole deployment: whoever administers a team writes the records in it, and must not be able to
    put out an operator by them."""
    return held_to is not None or user.team is None


def _require_enabled(user: User, team: Team | None) -> None:
    id = key_id_of(user.name)
    if is_enabled(user) and team is not None and team.archived_ms and team.deleted_ms is None:
        raise ProjectArchived(id)
    for holder in (user, team):
        if holder is not None and not is_enabled(holder):
            raise InvalidApiKey("user_disabled" if holder is user else "team_disabled", id)
