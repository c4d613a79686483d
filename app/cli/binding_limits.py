"""What a command says of limits that never count, because those of a user or team are lower."""

from dataclasses import replace
from typing import TYPE_CHECKING

from app.cli.output import print_notice
from app.cli.records import LIMIT_HEADINGS, limit_cells
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Holder, User, at

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext


async def print_binding_limits(context: "OperatorContext", holder: ApiKey | User) -> None:
    """One line, on stderr, when something above the key or user is reached before its own limits;
    raises of now are counted on both sides."""
    now_ms = await context.keyring.now_ms()
    own, above = _limits_of(holder, now_ms), []
    user = await context.keys.user(holder.user) if isinstance(holder, ApiKey) else holder
    if isinstance(holder, ApiKey):
        above.append((f"user {user.name}", _limits_of(user, now_ms)))
    if user.team is not None:
        team = await context.keys.team(user.team)
        above.append((f"team {team.name}", _limits_of(team, now_ms)))
    above.append(("the house", context.settings.house_limits))
    first = [text for name, limits in above if (text := _lower(own, name, limits))]
    if first:
        whose = "key" if isinstance(holder, ApiKey) else "user"
        print_notice(f"Lower than the {whose}'s own, so reached first: {'; '.join(first)}.")


def _limits_of(holder: Holder, now_ms: int) -> Limits:
    raised = at(now_ms, holder).raised
    return holder.limits if raised is None else raised.apply_to(holder.limits)


def _lower(own: Limits, name: str, limits: Limits) -> str:
    """Those of `limits` that are lower than what `own` has there."""
    lower = {
        field: None if mine is None or limit is None or limit >= mine else limit
        for field in Limits.__slots__
        for mine, limit in [(getattr(own, field), getattr(limits, field))]
    }
    cells = zip(LIMIT_HEADINGS, limit_cells(replace(Limits(), **lower)), strict=True)
    named = ", ".join(f"{heading} {cell}" for heading, cell in cells if cell is not None)
    return f"{named} of {name}" if named else ""
