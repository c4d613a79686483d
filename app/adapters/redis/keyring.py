"""The `KeyRing` on Redis, with a short memory of its own.

An answer is fresh for three seconds: a revoked key dies everywhere within that. When the store is
away a key that was known stays known for a minute; others cannot be told from strangers then
(reliability study, section 13).
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from app.adapters.redis import records
from app.adapters.redis.book import Book
from app.domain.errors import LedgerUnavailable
from app.domain.limits import SpendingStop
from app.domain.principal import ApiKey, Team, User

FRESH_S = 3.0
STALE_S = 60.0
KNOWN_KEPT = 10_000
STRANGERS_KEPT = 1_000

Identity = tuple[ApiKey, User, Team | None]


@dataclass(frozen=True, slots=True)
class _Seen:
    """An answer of the store, when it came (this process's clock) and what its clock said; `ended`
    is the record of a key that is past its end."""

    identity: Identity | None
    at_s: float
    store_ms: int
    ended: ApiKey | None = None

    def usable(self, now_s: float) -> Identity | None:
        if self.identity is None:
            return None
        store_ms = self.store_ms + int((now_s - self.at_s) * 1000)
        return self.identity if self.identity[0].usable(store_ms) else None


class _Memory:
    """The latest answers by digest. Strangers are kept apart: guesses push out no known key."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Seen] = OrderedDict()
        self._strangers: OrderedDict[str, _Seen] = OrderedDict()

    def get(self, digest: str) -> _Seen | None:
        return self._known.get(digest) or self._strangers.get(digest)

    def put(self, digest: str, seen: _Seen) -> None:
        self._known.pop(digest, None)
        self._strangers.pop(digest, None)
        kept, most = (
            (self._strangers, STRANGERS_KEPT)
            if seen.identity is None
            else (self._known, KNOWN_KEPT)
        )
        kept[digest] = seen
        if len(kept) > most:
            kept.popitem(last=False)

    def clear(self) -> None:
        self._known.clear()
        self._strangers.clear()


class RedisKeyRing:
    """Users, teams and keys; `app.domain.ports.KeyRing` says what each method does."""

    def __init__(self, book: Book, now: Callable[[], float] = time.monotonic) -> None:
        self._book, self._now = book, now
        self._memory = _Memory()

    async def authenticate(self, digest: str) -> Identity | None:
        """The records behind a key's SHA-256 (hex); None when unknown, expired or revoked.

        Raises `LedgerUnavailable` for a key not known for at most a minute, when the store is away
        or lost its data.
        """
        seen = self._memory.get(digest)
        if seen is None or self._now() - seen.at_s > FRESH_S:
            try:
                seen = await self._look_up(digest)
            except LedgerUnavailable:
                stale = seen is None or self._now() - seen.at_s > STALE_S
                if seen is None or seen.identity is None or stale:
                    raise
        return seen.usable(self._now())

    def why_refused(self, digest: str) -> tuple[str, str | None]:
        """See the port."""
        seen = self._memory.get(digest)
        key = seen and (seen.ended or (seen.identity and seen.identity[0]))
        if not key:
            return "unknown", None
        return "expired" if key.revoked_ms is None else "revoked", key.id

    async def _look_up(self, digest: str) -> _Seen:
        _, store_ms, key, user, team, *past = await self._book.write("whois", {"digest": digest})
        ended = records.read_key(past[0]) if past and past[0] else None
        identity = None
        if key is not None and user is not None:
            owner = records.read_user(user)
            group = None if team is None else records.read_team(team)
            identity = (records.read_key(key), owner, group)
        seen = _Seen(identity, self._now(), store_ms, ended)
        self._memory.put(digest, seen)
        return seen

    async def put_user(self, user: User, *, create: bool) -> bool:
        """Write a record; false when it exists already (`create`) or does not yet (otherwise)."""
        return await self._enrol("users", user.name, user, _mode(create))

    async def put_team(self, team: Team, *, create: bool) -> bool:
        """Like `put_user`."""
        return await self._enrol("teams", team.name, team, _mode(create))

    async def put_key(self, key: ApiKey) -> None:
        """Write a key's record, new or changed; an earlier digest of the key stops working."""
        await self._enrol("keys", key.id, key, "put", digest=key.digest)

    async def user(self, name: str) -> User | None:
        return next(map(records.read_user, await self._book.read("records", "users", name)), None)

    async def team(self, name: str) -> Team | None:
        return next(map(records.read_team, await self._book.read("records", "teams", name)), None)

    async def key(self, key_id: str) -> ApiKey | None:
        return next(map(records.read_key, await self._book.read("records", "keys", key_id)), None)

    async def users(self) -> Sequence[User]:
        """All users by name."""
        found = map(records.read_user, await self._book.read("records", "users"))
        return sorted(found, key=lambda user: user.name)

    async def teams(self) -> Sequence[Team]:
        """All teams by name."""
        found = map(records.read_team, await self._book.read("records", "teams"))
        return sorted(found, key=lambda team: team.name)

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        """All keys, or one user's, oldest first."""
        found = map(records.read_key, await self._book.read("records", "keys"))
        wanted = [key for key in found if user is None or key.user == user]
        return sorted(wanted, key=lambda key: (key.created_ms, key.id))

    async def put_stop(self, stop: SpendingStop, *, stopped: bool) -> None:
        """Stop a scope's spending, or let it go on."""
        row = {
            "name": stop.scope,
            "reason": stop.reason,
            "at_ms": stop.at_ms,
            "stopped": stopped,
        }
        ask = {"family": "stops", "name": row["name"], "mode": "put"}
        await self._book.write("enrol", ask | {"record": orjson.dumps(row).decode()})

    async def stops(self) -> Sequence[SpendingStop]:
        """The stops in force, by scope."""
        rows = [orjson.loads(text) for text in await self._book.read("records", "stops")]
        found = [SpendingStop(r["name"], r["reason"], r["at_ms"]) for r in rows if r["stopped"]]
        return sorted(found, key=lambda stop: stop.scope)

    async def last_used(self) -> Mapping[str, int]:
        """When each key was used last, by key id: Unix milliseconds, to the minute."""
        flat = await self._book.read("used")
        return {id: int(ms) for id, ms in zip(flat[::2], flat[1::2], strict=True)}

    async def now_ms(self) -> int:
        """The store's clock."""
        now_ms: int = await self._book.read("clock")
        return now_ms

    async def _enrol(
        self, family: str, name: str, record: User | Team | ApiKey, mode: str, **also: str
    ) -> bool:
        ask = {"family": family, "name": name, "mode": mode, **also}
        ask["record"] = records.write(record).decode()
        (status,) = await self._book.write("enrol", ask)
        self._memory.clear()
        return bool(status == "written")


def _mode(create: bool) -> str:
    return "create" if create else "replace"
