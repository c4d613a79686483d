"""Whose keys do not work although they are neither revoked nor expired."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.principal import KeyRing


async def find_disabled_holders(keyring: "KeyRing") -> Mapping[str, str]:
    """By user: `user` or `team`, whichever of them is disabled."""
    teams = {team.name for team in await keyring.teams() if team.disabled_ms is not None}
    users = await keyring.users()
    found = {user.name: "team" for user in users if user.team in teams}
    return found | {user.name: "user" for user in users if user.disabled_ms is not None}
