"""Use cases of the operator on all people and keys: pages, searches, and whose key this is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from app.domain.administration import AdminKey
from app.domain.directory import Directory, DirectoryReader
from app.domain.limits import Limits, LimitStatus
from app.domain.principal import ApiKey, Team, User, at, scope_of
from app.domain.secret_digest import digest_secret
from app.domain.team_bounds import TeamBounds
from app.service.keys import SECRET_PREFIX, KeyAdmin, select_by_secret
from app.service.people_values import (
    ALARMING_SHARE,
    IdentifiedSecret,
    KeyPage,
    KnownKey,
    PeoplePage,
    PeopleQuery,
    Person,
    key_state,
    share_used,
)
from app.service.team_records import TeamDirectory

SECRET = re.compile(re.escape(SECRET_PREFIX) + r"[A-Za-z0-9_-]{20,200}")
MAX_SECRETS = 20
MAX_ENDING_CHARS = 64
UNLIMITED = Limits()


class People:
    def __init__(self, directory: DirectoryReader, keys: KeyAdmin) -> None:
        self._directory, self._keys = directory, keys

    def held_to(self, bounds: TeamBounds) -> "People":
        """Those of one team."""
        return People(TeamDirectory(self._directory, bounds), self._keys.held_to(bounds))

    async def users(self, query: PeopleQuery) -> PeoplePage:
        """By name."""
        directory = await self._directory.read()
        found = (user for user in directory.users.values() if _wants_user(query, user))
        following = (user for user in found if query.after is None or user.name > query.after)
        if query.alarming:
            people = await self.find_alarming(directory, list(following))
            return PeoplePage(people[: query.limit], len(people) > query.limit)
        page = list(islice(following, query.limit + 1))
        people = await self._describe(directory, page[: query.limit])
        return PeoplePage(people, len(page) > query.limit)

    async def teams(self, query: PeopleQuery) -> PeoplePage:
        """By name."""
        directory = await self._directory.read()
        found = [
            team
            for team in directory.teams.values()
            if team.deleted_ms is None
            and _contains(query.text, team.name, team.title)
            and (query.after is None or team.name > query.after)
        ]
        people = await self._describe(directory, found[: query.limit])
        return PeoplePage(people, len(found) > query.limit)

    async def user(self, name: str) -> Person:
        """Raises `UserUnknown`."""
        user = await self._keys.user(name)
        (person,) = await self._describe(await self._directory.read(), [user])
        return person

    async def keys_of(self, user: str) -> Sequence[ApiKey]:
        """A user's keys, newest first; revoked ones too."""
        return (await self._directory.read()).keys_of.get(user, ())

    async def find_alarming(
        self, directory: Directory | None = None, users: Sequence[User] | None = None
    ) -> Sequence[Person]:
        """Those of whom some limit is used up to 80 %; without `users` of all."""
        directory = directory or await self._directory.read()
        wanted = directory.users.values() if users is None else users
        limited = [u for u in wanted if u.deleted_ms is None and u.limits != UNLIMITED]
        statuses = await self._statuses(limited, unlimited=False)
        alarming = [
            user
            for user in limited
            if any(share_used(status) >= ALARMING_SHARE for status in statuses[user.name])
        ]
        return await self._describe(directory, alarming)

    async def keys(self, query: PeopleQuery) -> KeyPage:
        """Newest first."""
        directory, now_ms = await self._directory.read(), await self._keys.now_ms()
        pool: Iterable[ApiKey] = directory.keys
        if query.user is not None:
            pool = directory.keys_of.get(query.user, ())
        found = [key for key in pool if _wants_key(query, key, directory, now_ms)]
        start = 0
        if query.after is not None:
            start = next(
                (n + 1 for n, key in enumerate(found) if key.id == query.after), len(found)
            )
        page = found[start : start + query.limit]
        used = await self._directory.last_used([key.id for key in page])
        known = [_know(key, directory, now_ms, used.get(key.id)) for key in page]
        return KeyPage(known, len(found) > start + query.limit, len(found))

    async def identify(self, text: str) -> Sequence[IdentifiedSecret]:
        """Whose the secrets in a text are, in their order; of a single word that is none also the
        keys of which it may be the last characters. Nothing of the text is kept or repeated."""
        secrets = list(dict.fromkeys(SECRET.findall(text)))[:MAX_SECRETS]
        directory, now_ms = await self._directory.read(), await self._keys.now_ms()
        if secrets:
            return [await self._identify(secret, directory, now_ms) for secret in secrets]
        word = text.strip()
        if not word or len(word.split()) > 1 or len(word) > MAX_ENDING_CHARS:
            return []
        keys = select_by_secret(directory.keys, word)[:MAX_SECRETS]
        used = await self._directory.last_used([key.id for key in keys])
        return [IdentifiedSecret(_know(key, directory, now_ms, used.get(key.id))) for key in keys]

    async def _identify(self, secret: str, directory: Directory, now_ms: int) -> IdentifiedSecret:
        key = await self._directory.find_key(digest_secret(secret))
        if key is None:
            return IdentifiedSecret()
        if isinstance(key, AdminKey):
            return IdentifiedSecret(admin=key, admin_alive=key.is_usable(now_ms))
        used = await self._directory.last_used([key.id])
        return IdentifiedSecret(_know(key, directory, now_ms, used.get(key.id)))

    async def _describe(
        self, directory: Directory, holders: Sequence[User] | Sequence[Team]
    ) -> Sequence[Person]:
        statuses = await self._statuses(holders)
        members: dict[str, list[str]] = {}
        for holder in holders:
            if isinstance(holder, Team):
                members[holder.name] = _members(directory, holder)
        keys = {
            holder.name: [
                key
                for name in members.get(holder.name, [holder.name])
                for key in directory.keys_of.get(name, ())
                if key.revoked_ms is None
            ]
            for holder in holders
        }
        used = await self._directory.last_used([key.id for of in keys.values() for key in of])
        return [
            Person(
                holder=holder,
                team=directory.team_of(holder) if isinstance(holder, User) else None,
                statuses=statuses[holder.name],
                keys=len(keys[holder.name]),
                used_ms=max((used[k.id] for k in keys[holder.name] if k.id in used), default=None),
                members=len(members.get(holder.name, ())),
            )
            for holder in holders
        ]

    async def _statuses(
        self, holders: Sequence[User] | Sequence[Team], *, unlimited: bool = True
    ) -> Mapping[str, Sequence[LimitStatus]]:
        now_ms = await self._keys.now_ms()
        scopes = [scope_of(at(now_ms, holder)) for holder in holders]
        grouped: dict[str, list[LimitStatus]] = {holder.name: [] for holder in holders}
        for status in await self._directory.read_scopes(scopes, unlimited=unlimited):
            grouped[status.name].append(status)
        return grouped


def _know(key: ApiKey, directory: Directory, now_ms: int, used_ms: int | None) -> KnownKey:
    user = directory.users.get(key.user)
    team = None if user is None else directory.team_of(user)
    return KnownKey(key, user, team, key_state(key, user, team, now_ms), used_ms)


def _members(directory: Directory, team: Team) -> list[str]:
    users = directory.users.values()
    return [user.name for user in users if user.team == team.name and user.deleted_ms is None]


def _contains(text: str, *fields: str) -> bool:
    word = text.casefold()
    return not word or any(word in field.casefold() for field in fields)


def _wants_user(query: PeopleQuery, user: User) -> bool:
    states = {"disabled": user.disabled_ms is not None, "active": user.disabled_ms is None}
    return (
        user.deleted_ms is None
        and query.team in (None, user.team)
        and _contains(query.text, user.name, user.title)
        and (query.state is None or states.get(query.state, False))
    )


def _wants_key(query: PeopleQuery, key: ApiKey, directory: Directory, now_ms: int) -> bool:
    user = directory.users.get(key.user)
    team = None if user is None else directory.team_of(user)
    if query.team is not None and (team is None or team.name != query.team):
        return False
    if not _contains(query.text, key.name, key.id, key.user, key.ending):
        return False
    return query.state is None or key_state(key, user, team, now_ms) == query.state
