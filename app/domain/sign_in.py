"""Sign-in by an OpenID provider: who may, as what, and the port to the provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.domain.administration import AdminScope
from app.domain.session import SessionRole
from app.domain.team_bounds import TEAM_SCOPES

LOGIN_LIFE_S = 600
"""How long somebody may take at the provider, from the button to the way back."""
MEMBER, OPERATOR, TEAM_ADMIN = ROLES = "member", "operator", "team_admin"
EXAMPLE = "groups:koi-operators=operator,groups:designers=member"
OWN_TEAM = ""
"""Holds a team admin to the team that their own Koi user is in."""


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Whoever has this value in this claim has this role; `scopes` are an operator's, and a `team`
    makes one a team admin."""

    claim: str
    value: str
    role: SessionRole
    scopes: frozenset[AdminScope] = frozenset()
    team: str | None = None

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """A claim is a text or a list of texts; nothing else matches anything."""
        found = claims.get(self.claim)
        return found == self.value or (isinstance(found, list) and self.value in found)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the rules give to one person."""

    role: SessionRole
    scopes: frozenset[AdminScope]
    team: str | None = None


class RolesInvalid(Exception):
    """A mapping that cannot be read; the message says why."""


def parse_roles(text: str) -> tuple[RoleRule, ...]:
    """Rules such as `groups:designers=member`, between commas. The claim ends at the last colon, so
    that its name may be a URL. `operator` has every scope, `operator/read+people` these;
    `team_admin/design` administers that team, `team_admin` the one that their Koi user is in.

    Raises `RolesInvalid`."""
    return tuple(_parse_rule(part.strip()) for part in text.split(",") if part.strip())


def _parse_rule(text: str) -> RoleRule:
    source, _, role = (part.strip() for part in text.rpartition("="))
    claim, _, value = (part.strip() for part in source.rpartition(":"))
    name, _, scopes = role.partition("/")
    if not claim or not value or name not in ROLES or (scopes and name == MEMBER):
        raise RolesInvalid(
            f"must be rules such as {EXAMPLE}; an operator's may end in /read+people, and a "
            "team_admin's in /design, the team."
        )
    if name == MEMBER:
        return RoleRule(claim, value, SessionRole.HOLDER)
    if name == TEAM_ADMIN:
        return RoleRule(claim, value, SessionRole.OPERATOR, TEAM_SCOPES, scopes or OWN_TEAM)
    return RoleRule(claim, value, SessionRole.OPERATOR, _parse_scopes(scopes or "all"))


def _parse_scopes(text: str) -> frozenset[AdminScope]:
    try:
        return frozenset(AdminScope(name) for name in text.split("+"))
    except ValueError:
        raise RolesInvalid("knows the scopes all, money, people and read.") from None


def find_grant(rules: Sequence[RoleRule], claims: Mapping[str, Any]) -> Grant | None:
    """What all matching rules give together; an operator is no team admin and no member beside,
    and of several teams the first rule's is administered. None: no rule matches."""
    found = [rule for rule in rules if rule.matches(claims)]
    whole = (rule.scopes for rule in found if rule.team is None)
    if scopes := frozenset[AdminScope]().union(*whole):
        return Grant(SessionRole.OPERATOR, scopes)
    for rule in found:
        if rule.team is not None:
            return Grant(rule.role, rule.scopes, rule.team)
    return Grant(SessionRole.HOLDER, frozenset()) if found else None


@dataclass(frozen=True, slots=True)
class LoginSecrets:
    """What ties one sign-in to the browser that began it (RFC 7636, OpenID Connect Core 3.1.2.1).
    `verifier` goes to the provider's token endpoint only."""

    state: str
    nonce: str
    verifier: str


class SignInRefused(Exception):
    """Nobody was signed in. `code` is one word for the page and the log, never what the provider
    wrote; `detail` is for the log."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


REFUSALS = frozenset(
    {"expired", "cancelled", "unavailable", "rejected", "no_role", "no_name", "unknown", "disabled"}
)
"""Every code of `SignInRefused`, each with its words on the page."""


class IdentityProvider(Protocol):
    """The provider of the settings. Both methods raise `SignInRefused`."""

    async def authorization_url(self, login: LoginSecrets, redirect_uri: str) -> str:
        """Where the browser is sent."""

    async def redeem(self, code: str, login: LoginSecrets, redirect_uri: str) -> Mapping[str, Any]:
        """The claims of the ID token that the code stands for, after every check: signature,
        issuer, audience, expiry and nonce."""
