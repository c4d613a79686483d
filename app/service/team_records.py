"""The records of one team: all that an administrator who is held to it can see and write."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from app.domain.administration import AdminKey, AuditLog, AuditNote, AuditPage, AuditQuery
from app.domain.directory import Directory, DirectoryReader
from app.domain.invitation import Invitation, InvitationRing
from app.domain.limits import Limits, LimitStatus, Scope, ScopeKind, SpendingStop
from app.domain.principal import ApiKey, Team, User
from app.domain.team_bounds import TeamBounds

if TYPE_CHECKING:
    from app.domain.ports import KeyRing


class TeamKeyRing:
    """A `KeyRing` without what is of others. `defaults` are the limits of new users. Writes of
    what is of others raise `InsufficientPermissions`, and a name that somebody else has is taken.
    """

    def __init__(self, ring: "KeyRing", bounds: TeamBounds, defaults: Limits) -> None:
        self._ring, self._bounds, self._defaults = ring, bounds, defaults
        self.authenticate = ring.authenticate
        self.refusal_reason = ring.refusal_reason
        self.last_used = ring.last_used
        self.now_ms = ring.now_ms

    async def save_user(
        self, user: User, note: AuditNote, *, create: bool, before: User | None = None
    ) -> bool:
        """See the port."""
        self._bounds.require(user.team)
        new = replace(user, limits=self._defaults, raised=None)
        known = before or await self.user(user.name) or new
        self._bounds.require(known.team)
        team = await self._ring.team(self._bounds.team)
        self._bounds.check_limits(user, known, team.limits if team is not None else Limits())
        return await self._ring.save_user(user, note, create=create, before=before)

    async def user(self, name: str) -> User | None:
        user = await self._ring.user(name)
        return user if user is not None and self._bounds.covers(user.team) else None

    async def users(self) -> Sequence[User]:
        return [user for user in await self._ring.users() if self._bounds.covers(user.team)]

    async def save_team(
        self, team: Team, note: AuditNote, *, create: bool, before: Team | None = None
    ) -> bool:
        """The team itself is the operator's."""
        self._refuse(team, note, create, before)

    async def team(self, name: str) -> Team | None:
        return await self._ring.team(name) if self._bounds.covers(name) else None

    async def teams(self) -> Sequence[Team]:
        return [team for team in await self._ring.teams() if self._bounds.covers(team.name)]

    async def save_key(self, key: ApiKey, note: AuditNote, *, before: ApiKey | None = None) -> None:
        """See the port."""
        for one in (key, before):
            if one is not None and await self.user(one.user) is None:
                raise self._bounds.refusal()
        await self._ring.save_key(key, note, before=before)

    async def key(self, key_id: str) -> ApiKey | None:
        key = await self._ring.key(key_id)
        return key if key is not None and await self.user(key.user) is not None else None

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        own = {one.name for one in await self.users()}
        return [key for key in await self._ring.keys(user) if key.user in own]

    async def save_stop(self, stop: SpendingStop, note: AuditNote, *, stopped: bool) -> None:
        """Stops of spending are the operator's."""
        self._refuse(stop, note, stopped)

    async def stops(self) -> Sequence[SpendingStop]:
        own = {f"{ScopeKind.USER}:{user.name}" for user in await self.users()}
        own.add(f"{ScopeKind.TEAM}:{self._bounds.team}")
        return [stop for stop in await self._ring.stops() if stop.scope in own]

    def _refuse(self, *_: object) -> NoReturn:
        raise self._bounds.refusal()


class TeamAuditLog:
    """An `AuditLog` of the changes of one team's users and keys."""

    def __init__(self, log: AuditLog, bounds: TeamBounds) -> None:
        self._log, self._bounds = log, bounds

    async def page(self, query: AuditQuery) -> AuditPage:
        return await self._log.page(replace(query, teams=self._bounds.narrow(query.teams)))


class TeamDirectory:
    """A `DirectoryReader` of one team. An admin key is nobody's there."""

    def __init__(self, reader: DirectoryReader, bounds: TeamBounds) -> None:
        self._reader, self._bounds = reader, bounds

    async def read(self) -> Directory:
        whole, covers = await self._reader.read(), self._bounds.covers
        users = {name: user for name, user in whole.users.items() if covers(user.team)}
        return Directory(
            teams={name: team for name, team in whole.teams.items() if covers(name)},
            users=users,
            keys=[key for key in whole.keys if key.user in users],
            keys_of={name: whole.keys_of[name] for name in users if name in whole.keys_of},
        )

    async def last_used(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        return await self._reader.last_used(key_ids)

    async def find_key(self, digest: str) -> ApiKey | AdminKey | None:
        key = await self._reader.find_key(digest)
        own = isinstance(key, ApiKey) and key.user in (await self.read()).users
        return key if own else None

    async def read_scopes(
        self, scopes: Sequence[Scope], *, unlimited: bool = True
    ) -> Sequence[LimitStatus]:
        return await self._reader.read_scopes(scopes, unlimited=unlimited)


class TeamInvitationRing:
    """An `InvitationRing` of the invitations of one team's users; nobody accepts one here."""

    def __init__(self, ring: InvitationRing, keyring: "KeyRing", bounds: TeamBounds) -> None:
        self._ring, self._keyring, self._bounds = ring, keyring, bounds
        self.invitation, self.accept = ring.invitation, ring.accept

    async def save_invitation(
        self, invitation: Invitation, note: AuditNote, *, before: Invitation | None = None
    ) -> None:
        user = await self._keyring.user(invitation.user)
        self._bounds.require(None if user is None else user.team)
        own = replace(invitation, team=self._bounds.team) if before is None else invitation
        await self._ring.save_invitation(own, note, before=before)

    async def invitations(self) -> Sequence[Invitation]:
        own = {user.name for user in await self._keyring.users() if self._bounds.covers(user.team)}
        return [one for one in await self._ring.invitations() if one.user in own]
