"""Everybody who may use this deployment, as the operator looks through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.administration import AdminKey
from app.domain.limits import LimitStatus, Scope
from app.domain.principal import ApiKey, Team, User


@dataclass(frozen=True, slots=True)
class Directory:
    """All teams and users by name, and all keys, newest first; deleted and revoked ones too."""

    teams: Mapping[str, Team]
    users: Mapping[str, User]
    keys: Sequence[ApiKey]
    keys_of: Mapping[str, Sequence[ApiKey]]
    """A user's keys, newest first."""

    def team_of(self, user: User) -> Team | None:
        return None if user.team is None else self.teams.get(user.team)


class DirectoryReader(Protocol):
    """Reads it cheaply, also when there are ten thousand keys. Raises `LedgerUnavailable`."""

    async def read(self) -> Directory:
        """As it is now: what was read before is used while no operator changed anything."""

    async def last_used(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        """When these keys were used last: Unix milliseconds, to the minute; unused ones are left
        out."""

    async def find_key(self, digest: str) -> ApiKey | AdminKey | None:
        """The key of a secret's SHA-256 (hex), ended ones too."""

    async def read_scopes(
        self, scopes: Sequence[Scope], *, unlimited: bool = True
    ) -> Sequence[LimitStatus]:
        """How every limit of these scopes stands; `unlimited` ones too."""
