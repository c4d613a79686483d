"""The `DirectoryReader` on Redis: all records are read again only when one was changed.

Each change of a record adds one to the audit log, so that its newest id says whether what this
process read is still right.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from app.adapters.redis import keyspace, records
from app.adapters.redis.client.scripts import LATEST_CHANGE, READ_FIELDS, READ_RECORD
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.scope_set import ScopeSet
from app.domain.administration import AdminKey
from app.domain.directory import Directory
from app.domain.limits import LimitStatus, Scope
from app.domain.principal import ApiKey

MAX_SCOPES = 500
"""Of one script: it holds up the store for a millisecond or two."""


class RedisDirectory:
    """`app.domain.directory.DirectoryReader` says what each method does."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._version: str | None = None
        self._known: Directory | None = None

    async def read(self) -> Directory:
        version = await self._read_version()
        if self._known is None or version != self._version:
            self._known, self._version = await self._read_all(), version
        return self._known

    async def last_used(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        if not key_ids:
            return {}
        found = await self._scripts.command(READ_FIELDS, keyspace.key("used"), *key_ids)
        pairs = zip(key_ids, found, strict=True)
        return {id: int(ms) for id, ms in pairs if ms is not None}

    async def find_key(self, digest: str) -> ApiKey | AdminKey | None:
        id = await self._scripts.command(READ_RECORD, keyspace.key("digests"), digest)
        text = await self._scripts.record("keys", id) if id else None
        if text is None or records.is_invitation(text):
            return None
        is_admin = records.is_admin_key(text)
        return records.read_admin_key(text) if is_admin else records.read_key(text)

    async def read_scopes(
        self, scopes: Sequence[Scope], *, unlimited: bool = True
    ) -> Sequence[LimitStatus]:
        found: list[LimitStatus] = []
        for start in range(0, len(scopes), MAX_SCOPES):
            part = ScopeSet(tuple(scopes[start : start + MAX_SCOPES]))
            fields = await self._scripts.run_dated("read_limits", part.fields())
            found += part.snapshot(fields["limits"], unlimited=unlimited).statuses
        return found

    async def _read_version(self) -> str:
        """The epoch and the newest change, or nothing yet."""
        span = "+", "-", "COUNT", 1
        latest = await self._scripts.command(LATEST_CHANGE, keyspace.key("audit"), *span)
        position = self._scripts.position
        return f"{position and position.epoch} {latest[0][0] if latest else ''}"

    async def _read_all(self) -> Directory:
        teams, users, keys = [
            await self._scripts.records(family) for family in ("teams", "users", "keys")
        ]
        # In a thread, because ten thousand records take a while and requests are being served.
        return await asyncio.to_thread(_build, teams, users, keys)


def _build(team_texts: list[str], user_texts: list[str], key_texts: list[str]) -> Directory:
    teams, users = map(records.read_team, team_texts), map(records.read_user, user_texts)
    keys = [records.read_key(text) for text in key_texts if records.is_user_key(text)]
    keys.sort(key=lambda key: (key.created_ms, key.id), reverse=True)
    keys_of: dict[str, list[ApiKey]] = defaultdict(list)
    for key in keys:
        keys_of[key.user].append(key)
    return Directory(
        teams={team.name: team for team in sorted(teams, key=lambda team: team.name)},
        users={user.name: user for user in sorted(users, key=lambda user: user.name)},
        keys=keys,
        keys_of=dict(keys_of),
    )
