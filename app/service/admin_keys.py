"""Use cases on admin keys: who may administer this deployment over HTTP."""

import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from app.domain.administration import (
    Actor,
    ActorKind,
    AdminKey,
    AdminKeyRing,
    AdminScope,
    AuditNote,
)
from app.domain.principal import is_enabled
from app.domain.secret_digest import digest_secret
from app.domain.team_bounds import narrow_scopes
from app.service.admin_errors import KeyUnknown, NameInvalid, TeamUnknown
from app.service.keys import ENDING_CHARS, select_by_secret
from app.service.teams import checked_title, one_line

if TYPE_CHECKING:
    from app.domain.ports import KeyRing

SECRET_PREFIX = "sk-koi-admin-"  # noqa: S105


@dataclass(frozen=True, slots=True)
class IssuedAdminKey:
    """A new admin key. `secret` is shown once and never stored."""

    secret: str
    key: AdminKey


def is_well_formed(secret: str) -> bool:
    """Whether a text can be the secret of an admin key: its checksum is right. Others are not
    looked up."""
    body, _, checksum = secret.rpartition("-")
    return body.startswith(SECRET_PREFIX) and checksum == _checksum(body)


class AdminKeys:
    """`keyring` has the clock; the audit log will say that `actor` made every change, and why."""

    def __init__(
        self, admin_keyring: AdminKeyRing, keyring: "KeyRing", actor: Actor, reason: str = ""
    ) -> None:
        self._admin_keyring, self._keyring = admin_keyring, keyring
        self._actor, self._reason = actor, one_line(reason)

    def acting_as(self, actor: Actor | None = None, reason: str = "") -> "AdminKeys":
        return AdminKeys(self._admin_keyring, self._keyring, actor or self._actor, reason)

    async def authenticate(self, secret: str) -> AdminKey | None:
        """The key of a secret; None when there is none that can be used."""
        if not is_well_formed(secret):
            return None
        return await self.authenticate_digest(digest_secret(secret))

    async def authenticate_digest(self, digest: str) -> AdminKey | None:
        """The same for the SHA-256 (hex) of a secret, by which a session names its key."""
        return await self._admin_keyring.authenticate_admin(digest)

    async def issue(
        self,
        name: str,
        scopes: frozenset[AdminScope],
        expires_in: timedelta | None = None,
        team: str | None = None,
    ) -> IssuedAdminKey:
        """A key for the whole deployment, or held to a `team`. Raises `NameInvalid`,
        `TeamUnknown`."""
        label = checked_title(name)
        if not label:
            raise NameInvalid("An admin key needs a name that says who or what uses it.")
        if team is not None:
            await self._require_team(team)
            scopes = narrow_scopes(scopes)
        body = SECRET_PREFIX + secrets.token_urlsafe(32)
        secret = f"{body}-{_checksum(body)}"
        now_ms = await self._keyring.now_ms()
        life_ms = None if expires_in is None else round(expires_in.total_seconds() * 1000)
        key = AdminKey(
            id=f"admkey_{secrets.token_hex(8)}",
            name=label,
            digest=digest_secret(secret),
            scopes=scopes,
            created_ms=now_ms,
            expires_ms=None if life_ms is None else now_ms + life_ms,
            ending=secret[-ENDING_CHARS:],
            team=team,
        )
        await self._admin_keyring.save_admin_key(key, self._note("admin_key.created"))
        return IssuedAdminKey(secret, key)

    async def keys(self) -> Sequence[AdminKey]:
        """All, ended ones too, oldest first."""
        return await self._admin_keyring.admin_keys()

    async def key(self, key_id: str) -> AdminKey:
        """Raises `KeyUnknown`."""
        for key in await self.keys():
            if key.id == key_id:
                return key
        raise KeyUnknown(f"There is no admin key {key_id!r}; see `koi admin-keys list`.")

    async def find_by_secret(self, text: str) -> Sequence[AdminKey]:
        """The keys that a secret, or its last characters (four at least), may belong to."""
        return select_by_secret(await self.keys(), text)

    async def revoke(self, key_id: str) -> AdminKey:
        """End a key for good, on all workers within five seconds. Raises `KeyUnknown`."""
        key = await self.key(key_id)
        if key.revoked_ms is None:
            key = replace(key, revoked_ms=await self._keyring.now_ms())
            await self._admin_keyring.save_admin_key(key, self._note("admin_key.revoked"))
        return key

    async def _require_team(self, name: str) -> None:
        team = await self._keyring.team(name)
        if team is None or not is_enabled(team):
            raise TeamUnknown(f"There is no team {name!r} that is enabled; see `koi teams list`.")

    def _note(self, kind: str) -> AuditNote:
        return AuditNote(self._actor, kind, self._reason)


def actor_of(key: AdminKey) -> Actor:
    return Actor(ActorKind.ADMIN_KEY, key.id)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
