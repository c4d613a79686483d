"""The `KeyRing` on Redis, with a small cache in each process.

An answer is fresh for three seconds: a revoked key stops working everywhere within that, and a
raise of limits ends on time by the store's clock. While the store is away a known key stays known
for a minute; other keys cannot be checked then.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson

from app.adapters.redis import keyspace, records
from app.adapters.redis.client.scripts import LIST_KEY_USE
from app.adapters.redis.codec import to_json
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AdminKey, AuditNote, Conflict
from app.domain.errors import LedgerUnavailable
from app.domain.limits import SpendingStop
from app.domain.principal import ApiKey, Team, User, at
from app.domain.single_flight import SingleFlight

CACHE_FRESH_S = 3.0
CACHE_STALE_S = 60.0
MAX_KNOWN_KEYS = 10_000
MAX_UNKNOWN_KEYS = 1_000

KeyIdentity = tuple[ApiKey, User, Team | None]


@dataclass(frozen=True, slots=True)
class _CachedLookup:
    """An answer of the store, when it came (this process's clock) and the store's time then; until
    when it is fresh. `admin` is set when it is an admin key; `ended` is the record of an expired or
    revoked key."""

    identity: KeyIdentity | None
    at_s: float
    store_ms: int
    fresh_until_s: float
    ended: ApiKey | AdminKey | None = None
    admin: AdminKey | None = None

    @property
    def is_known(self) -> bool:
        return self.identity is not None or self.admin is not None

    def is_usable(self, now_s: float) -> KeyIdentity | None:
        if self.identity is None:
            return None
        return self.identity if self.identity[0].is_usable(self._store_ms(now_s)) else None

    def is_usable_admin(self, now_s: float) -> AdminKey | None:
        if self.admin is None:
            return None
        return self.admin if self.admin.is_usable(self._store_ms(now_s)) else None

    def _store_ms(self, now_s: float) -> int:
        return self.store_ms + int((now_s - self.at_s) * 1000)


class _LookupCache:
    """The latest answers by digest. Unknown digests are kept apart: guesses evict no known key."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _CachedLookup] = OrderedDict()
        self._unknown: OrderedDict[str, _CachedLookup] = OrderedDict()

    def get(self, digest: str) -> _CachedLookup | None:
        return self._known.get(digest) or self._unknown.get(digest)

    def put(self, digest: str, look_up: _CachedLookup) -> None:
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        kept, most = (
            (self._unknown, MAX_UNKNOWN_KEYS)
            if not look_up.is_known
            else (self._known, MAX_KNOWN_KEYS)
        )
        kept[digest] = look_up
        if len(kept) > most:
            kept.popitem(last=False)

    def clear(self) -> None:
        self._known.clear()
        self._unknown.clear()


class RedisKeyRing:
    """Users, teams and keys; `app.domain.ports.KeyRing` says what each method does."""

    def __init__(self, scripts: LedgerScripts, now: Callable[[], float] = time.monotonic) -> None:
        self._scripts, self._now = scripts, now
        self._cache = _LookupCache()
        self._look_ups: SingleFlight[_CachedLookup] = SingleFlight()
        """A busy key's answer gets old for all of its requests at once."""

    async def authenticate(self, digest: str) -> KeyIdentity | None:
        """The records behind a key's SHA-256 (hex); None when unknown, expired or revoked.

        Raises `LedgerUnavailable` for a key not known for at most a minute, when the store is away
        or lost its data.
        """
        look_up, now_s = self._cache.get(digest), self._now()
        if look_up is None or now_s > look_up.fresh_until_s:
            look_up, now_s = await self._known(digest), self._now()
        return look_up.is_usable(now_s)

    async def authenticate_admin(self, digest: str) -> AdminKey | None:
        """The same for an admin key."""
        return (await self._known(digest)).is_usable_admin(self._now())

    async def _known(self, digest: str) -> _CachedLookup:
        look_up = self._cache.get(digest)
        if look_up is None or self._now() > look_up.fresh_until_s:
            try:
                look_up = await self._look_ups.ask(digest, partial(self._look_up, digest))
            except LedgerUnavailable:
                stale = look_up is None or self._now() - look_up.at_s > CACHE_STALE_S
                if look_up is None or not look_up.is_known or stale:
                    raise
        return look_up

    def refusal_reason(self, digest: str) -> tuple[str, str | None]:
        """See the port."""
        look_up = self._cache.get(digest)
        if look_up and look_up.admin:
            return "admin_key", look_up.admin.id
        key = look_up and (look_up.ended or (look_up.identity and look_up.identity[0]))
        if not key:
            return "unknown", None
        return "expired" if key.revoked_ms is None else "revoked", key.id

    async def _look_up(self, digest: str) -> _CachedLookup:
        _, found = await self._scripts.write("lookup_key", {"digest": digest})
        key, user, team = found.get("key"), found.get("user"), found.get("team")
        identity, admin = None, None
        if key and records.is_admin_key(key):
            admin = records.read_admin_key(key)
        elif key and user and not records.is_invitation(key):
            group = records.read_team(team) if team else None
            identity = _as_of(
                found["now_ms"], records.read_key(key), records.read_user(user), group
            )
        ended = _read_either(found["ended"]) if found.get("ended") else None
        at_s, now_ms = self._now(), found["now_ms"]
        fresh_s = CACHE_FRESH_S if identity is None else _fresh_for_s(identity, now_ms)
        look_up = _CachedLookup(identity, at_s, now_ms, at_s + fresh_s, ended, admin)
        self._cache.put(digest, look_up)
        return look_up

    async def save_user(
        self, user: User, note: AuditNote, *, create: bool, before: User | None = None
    ) -> bool:
        """See the port."""
        ask = ask_to_save("users", user.name, records.write(user), _mode(create), before)
        return await self.save(ask, note)

    async def save_team(
        self, team: Team, note: AuditNote, *, create: bool, before: Team | None = None
    ) -> bool:
        """See the port."""
        ask = ask_to_save("teams", team.name, records.write(team), _mode(create), before)
        return await self.save(ask, note)

    async def save_key(self, key: ApiKey, note: AuditNote, *, before: ApiKey | None = None) -> None:
        """See the port."""
        ask = ask_to_save("keys", key.id, records.write(key), "put", before)
        await self.save({**ask, "digest": key.digest}, note)

    async def save_admin_key(self, key: AdminKey, note: AuditNote) -> None:
        """Like `save_key`."""
        ask = ask_to_save("keys", key.id, records.write_admin_key(key), "put")
        await self.save({**ask, "digest": key.digest}, note)

    async def user(self, name: str) -> User | None:
        text = await self._scripts.record("users", name)
        return records.read_user(text) if text else None

    async def team(self, name: str) -> Team | None:
        text = await self._scripts.record("teams", name)
        return records.read_team(text) if text else None

    async def key(self, key_id: str) -> ApiKey | None:
        text = await self._scripts.record("keys", key_id)
        return records.read_key(text) if text and records.is_user_key(text) else None

    async def users(self) -> Sequence[User]:
        """All users by name."""
        found = map(records.read_user, await self._scripts.records("users"))
        return sorted(found, key=lambda user: user.name)

    async def teams(self) -> Sequence[Team]:
        """All teams by name."""
        found = map(records.read_team, await self._scripts.records("teams"))
        return sorted(found, key=lambda team: team.name)

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        """All keys, or one user's, oldest first."""
        texts = await self._scripts.records("keys")
        found = [records.read_key(text) for text in texts if records.is_user_key(text)]
        wanted = [key for key in found if user is None or key.user == user]
        return sorted(wanted, key=lambda key: (key.created_ms, key.id))

    async def admin_keys(self) -> Sequence[AdminKey]:
        """All admin keys, oldest first."""
        texts = await self._scripts.records("keys")
        found = [records.read_admin_key(text) for text in texts if records.is_admin_key(text)]
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    async def save_stop(self, stop: SpendingStop, note: AuditNote, *, stopped: bool) -> None:
        """Stop a scope's spending, or let it go on."""
        row = {
            "name": stop.scope,
            "reason": stop.reason,
            "at_ms": stop.at_ms,
            "stopped": stopped,
        }
        await self.save(ask_to_save("stops", stop.scope, to_json(row).encode(), "put"), note)

    async def stops(self) -> Sequence[SpendingStop]:
        """The stops in force, by scope."""
        rows = [orjson.loads(text) for text in await self._scripts.records("stops")]
        found = [SpendingStop(r["name"], r["reason"], r["at_ms"]) for r in rows if r["stopped"]]
        return sorted(found, key=lambda stop: stop.scope)

    async def last_used(self) -> Mapping[str, int]:
        """When each key was used last, by key id: Unix milliseconds, to the minute."""
        used = await self._scripts.command(LIST_KEY_USE, keyspace.key("used"))
        return {id: int(ms) for id, ms in used.items()}

    async def now_ms(self) -> int:
        """The store's clock."""
        return await self._scripts.now_ms()

    async def save(self, ask: Mapping[str, object], note: AuditNote) -> bool:
        """Write a record (`ask_to_save`); whether it was written. Raises `Conflict`."""
        audit = {"actor": note.actor.text, "kind": note.kind, "reason": note.reason}
        status, _ = await self._scripts.write("save_record", {**ask, "audit": audit})
        self._cache.clear()
        self._look_ups.clear()
        if status in CONFLICTS:
            raise Conflict(CONFLICTS[status])
        return status == "written"


CONFLICTS = {
    "changed": "This was changed by somebody else at the same moment; nothing was written. Look at "
    "it again and repeat the change.",
    "taken": "This secret belongs to another key, or to one that was revoked; nothing was written. "
    "Make a new secret.",
}


def ask_to_save(
    family: str, name: str, record: bytes, mode: str, seen: ApiKey | User | Team | None = None
) -> dict[str, object]:
    ask: dict[str, object] = {"family": family, "name": name, "mode": mode}
    ask["record"] = record.decode()
    return ask if seen is None else ask | {"seen": records.write_seen(seen).decode()}


def _as_of(now_ms: int, key: ApiKey, user: User, team: Team | None) -> KeyIdentity:
    return at(now_ms, key), at(now_ms, user), None if team is None else at(now_ms, team)


def _fresh_for_s(identity: KeyIdentity, now_ms: int) -> float:
    """Three seconds, or until the first raise ends."""
    ends = [one.raised.until_ms for one in identity if one is not None and one.raised is not None]
    return min([CACHE_FRESH_S, *((end - now_ms) / 1000 for end in ends)])


def _read_either(text: str) -> ApiKey | AdminKey:
    return records.read_admin_key(text) if records.is_admin_key(text) else records.read_key(text)


def _mode(create: bool) -> str:
    return "create" if create else "replace"
