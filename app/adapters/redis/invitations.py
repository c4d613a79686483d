"""`InvitationRing` on Redis: an invitation is a key's record whose secret nobody has yet.

It is of a user that cannot exist, so that its token is no API key, for a gateway of an earlier
version either; and where it becomes a key, the same record does.
"""

from collections.abc import Sequence
from dataclasses import fields

import orjson

from app.adapters.redis import records
from app.adapters.redis.keyring import RedisKeyRing, ask_to_save
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditNote
from app.domain.invitation import Invitation
from app.domain.principal import ApiKey


class RedisInvitations:
    def __init__(self, scripts: LedgerScripts, keyring: RedisKeyRing) -> None:
        self._scripts, self._keyring = scripts, keyring

    async def save_invitation(
        self, invitation: Invitation, note: AuditNote, *, before: Invitation | None = None
    ) -> None:
        """See the port."""
        ask = ask_to_save("keys", invitation.id, _write(invitation), "put")
        ask["digest"] = invitation.digest
        await self._save(ask, note, before)

    async def invitation(self, digest: str) -> Invitation | None:
        """See the port."""
        key_id = await self._scripts.record("digests", digest)
        text = await self._scripts.record("keys", key_id) if key_id else None
        return _read(text) if text and records.is_invitation(text) else None

    async def invitations(self) -> Sequence[Invitation]:
        """See the port."""
        texts = await self._scripts.records("keys")
        found = [_read(text) for text in texts if records.is_invitation(text)]
        return sorted(found, key=lambda one: (one.created_ms, one.id))

    async def accept(self, invitation: Invitation, key: ApiKey, note: AuditNote) -> None:
        """See the port."""
        ask = ask_to_save("keys", key.id, records.write(key), "replace")
        await self._save({**ask, "digest": key.digest}, note, invitation)

    async def _save(
        self, ask: dict[str, object], note: AuditNote, before: Invitation | None
    ) -> None:
        seen = {} if before is None else {"seen": _write(before).decode()}
        await self._keyring.save({**ask, **seen}, note)


def _write(invitation: Invitation) -> bytes:
    row = {field.name: getattr(invitation, field.name) for field in fields(Invitation)}
    if invitation.team is None:
        del row["team"]  # as gateways of an earlier version write and compare it
    placed: dict[str, object] = {"user": records.NO_USER, "limits": {}, "models": None}
    return orjson.dumps({**row, **placed, records.INVITED: invitation.user})


def _read(text: str) -> Invitation:
    row = orjson.loads(text)
    known = {field.name for field in fields(Invitation)}
    values = {name: row[name] for name in row if name in known}
    return Invitation(**{**values, "user": row[records.INVITED]})
