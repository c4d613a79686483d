"""Which team an administrator may act on, when it is not the whole deployment.

The only owner of this rule. Use cases ask it (`held_to`), and hide what is of others as if it were
not there; routes are closed to such administrators unless they say otherwise (`admin_route`).
"""

from dataclasses import dataclass, fields

from app.domain.administration import AdminScope, InsufficientPermissions
from app.domain.limits import Limits
from app.domain.principal import User

NO_TEAM = "@none"
"""No team can have this name, and it does not stand for having none (`queries.NOBODY`)."""
TEAM_SCOPES = frozenset({AdminScope.READ, AdminScope.PEOPLE, AdminScope.MONEY})
"""What somebody who is held to a team may have at most."""


@dataclass(frozen=True, slots=True)
class TeamBounds:
    """Held to the users, keys, jobs and usage of one team, and to what its limits leave."""

    team: str

    def covers(self, team: str | None) -> bool:
        return team == self.team

    def narrow(self, teams: frozenset[str]) -> frozenset[str]:
        """The teams that a query may ask for; it asks for these, empty: all."""
        return frozenset({self.team if not teams or self.team in teams else NO_TEAM})

    def refusal(self) -> InsufficientPermissions:
        """Of what concerns others, or the deployment."""
        return InsufficientPermissions(
            f"You administer the people and keys of team {self.team}; its own limits, and all that "
            "is not of this team, are the operator's. Nothing was changed."
        )

    def require(self, team: str | None) -> None:
        """Raises `InsufficientPermissions`."""
        if not self.covers(team):
            raise self.refusal()

    def check_limits(self, user: User, before: User, team: Limits) -> None:
        """A user's limit goes down freely, and up to what the operator set for the team: where
        that is nothing, not at all. A raise stays within the team's limit too. Raises
        `InsufficientPermissions`."""
        for field in fields(Limits):
            name = field.name
            most, old, new = (getattr(one, name) for one in (team, before.limits, user.limits))
            if new != old and _is_more(new, old) and (most is None or _is_more(new, most)):
                raise _beyond(name, most)
        if user.raised is None or user.raised == before.raised:
            return
        raised = user.raised.apply_to(user.limits)
        for name in (name for name, by in user.raised.amounts.items() if by):
            most = getattr(team, name)
            if most is None or _is_more(getattr(raised, name), most):
                raise _beyond(name, most)


def narrow_scopes(scopes: frozenset[AdminScope]) -> frozenset[AdminScope]:
    """What of these scopes there is within one team: `all` is everything there."""
    return TEAM_SCOPES if AdminScope.ALL in scopes else scopes & TEAM_SCOPES


def _is_more(limit: int | None, other: int | None) -> bool:
    return other is not None and (limit is None or limit > other)


def _beyond(name: str, most: int | None) -> InsufficientPermissions:
    words = name.replace("micros", "money").replace("_", " ")
    reason = (
        f"Your team has no limit of {words}, so that of a person cannot be made larger"
        if most is None
        else f"A limit of {words} cannot be made larger than your team's"
    )
    return InsufficientPermissions(f"{reason}; nothing was changed. Ask the operator.")
