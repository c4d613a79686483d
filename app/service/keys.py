"""Use cases of the operator: users, teams and their API keys."""

import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from typing import TypeVar

from app.domain.administration import AdminKey
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Holder, Team, User
from app.domain.secret_digest import digest_secret
from app.service.admin_errors import KeyUnknown
from app.service.raises import checked_raise, parse_until
from app.service.teams import checked_label, checked_name, stored_title
from app.service.tenants import TenantAdmin

SECRET_PREFIX = "sk-koi-"  # noqa: S105
ENDING_CHARS = 8
"""Characters of a secret's checksum, kept with the key."""
MIN_ENDING_CHARS = 4
AnyKey = TypeVar("AnyKey", ApiKey, AdminKey)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. `secret` is shown once and never stored."""

    secret: str
    key: ApiKey


def new_secret() -> str:
    """256 random bits with a checksum, so that a mistyped key is told from a revoked one."""
    body = SECRET_PREFIX + secrets.token_urlsafe(32)
    return f"{body}-{zlib.crc32(body.encode()):08x}"


def make_key(key_id: str, user: str, name: str, now_ms: int) -> IssuedKey:
    """A key with a new secret and no limits of its own, not yet stored."""
    key = ApiKey(key_id, user, "", name, Limits(), now_ms)
    return _with_secret(key)


def _with_secret(key: ApiKey) -> IssuedKey:
    secret = new_secret()
    digest = digest_secret(secret)
    return IssuedKey(secret, replace(key, digest=digest, ending=secret[-ENDING_CHARS:]))


class KeyAdmin(TenantAdmin):
    """Users and teams, and the keys by which they are known."""

    async def issue(
        self,
        user: str,
        *,
        name: str = "",
        expires_in: timedelta | None = None,
        models: frozenset[str] | None = None,
        limits: Limits | None = None,
        response_format: ResponseFormat | None = None,
    ) -> IssuedKey:
        """A key for a user, who is created with the default limits when unknown.

        Raises `NameInvalid`, `ModelUnknown`, `BudgetUnpriced`.
        """
        models, kept = self._known_models(models), self.checked_limits(limits or Limits())
        label = checked_label(name)
        # Only now, so that a refused command creates no user.
        await self.ensure_user(user, new=True)
        now = await self._keyring.now_ms()
        return await self._put(
            ApiKey(
                id=_new_key_id(),
                user=user,
                digest="",
                name=label,
                limits=kept,
                created_ms=now,
                expires_ms=None if expires_in is None else now + _ms(expires_in),
                models=models,
                response_format=response_format,
            )
        )

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        return await self._keyring.keys(user)

    async def last_used(self) -> Mapping[str, int]:
        """When each key was used last, by key id: Unix milliseconds, to the minute."""
        return await self._keyring.last_used()

    async def now_ms(self) -> int:
        """The store's clock."""
        return await self._keyring.now_ms()

    async def set_key(
        self,
        before: ApiKey,
        *,
        limits: Limits,
        name: str,
        models: frozenset[str] | None,
        expires_ms: int | None,
        response_format: ResponseFormat | None,
    ) -> ApiKey:
        """Replace what a key may do; raises `ModelUnknown`, `BudgetUnpriced`, `Conflict`."""
        key = replace(
            before,
            limits=self.checked_limits(limits),
            name=name if name == before.name else checked_label(name),
            models=self._known_models(models),
            expires_ms=expires_ms,
            response_format=response_format,
        )
        await self._keyring.save_key(key, self._note("key.updated"), before=before)
        return key

    async def set_key_webhook(self, key_id: str, url: str | None) -> ApiKey:
        """Who is told how the key's tasks end, unless a request says; None leaves it to the user's.
        Raises `KeyUnknown`, `Conflict`."""
        before = await self.key(key_id)
        key = replace(before, webhook=url)
        await self._keyring.save_key(key, self._note("key.updated"), before=before)
        return key

    async def set_forwards_users(self, key_id: str, forwards: bool) -> ApiKey:
        """Whether the key's headers are believed on who asks. Raises `KeyUnknown`, `Conflict`."""
        before = await self.key(key_id)
        key = replace(before, forwards_users=forwards)
        if key != before:
            await self._keyring.save_key(key, self._note("key.updated"), before=before)
        return key

    async def find_by_secret(self, text: str) -> Sequence[ApiKey]:
        """The keys that a secret, or its last characters (four at least), may belong to."""
        return select_by_secret(await self.keys(), text)

    async def delete_user(self, name: str) -> int:
        """Revoke a user's keys and take the name off the lists; returns how many keys that were.

        The ledger keeps what was used. A stop of the user's spending ends too, so that it does not
        hit the next user of that name. Raises `UserUnknown`.
        """
        user = await self.user(name)
        keys = [key for key in await self.keys(name) if key.revoked_ms is None]
        for key in keys:
            await self.revoke(key.id)
        now_ms = await self._keyring.now_ms()
        await self._replace(user, replace(user, deleted_ms=now_ms), "deleted")
        await self.resume_spending(f"user:{name}")
        return len(keys)

    async def revoke(self, key_id: str) -> ApiKey:
        """End a key for good, on all workers within five seconds. Raises `KeyUnknown`."""
        key = before = await self.key(key_id)
        if key.revoked_ms is None:
            key = replace(key, revoked_ms=await self._keyring.now_ms())
            await self._keyring.save_key(key, self._note("key.revoked"), before=before)
        return key

    async def rotate(self, key_id: str, overlap: timedelta) -> IssuedKey:
        """A new secret with the same rights; the old one works until the overlap ends. Raises
        `KeyUnknown`."""
        old = await self.key(key_id)
        now = await self._keyring.now_ms()
        if not old.is_usable(now):
            raise KeyUnknown(f"Key {key_id} is revoked or expired; create a new one.")
        issued = await self._put(replace(old, id=_new_key_id(), digest="", created_ms=now))
        ends = now + _ms(overlap)
        ending = replace(old, expires_ms=min(ends, old.expires_ms) if old.expires_ms else ends)
        await self._keyring.save_key(ending, self._note("key.rotated"), before=old)
        return issued

    async def replace_secret(self, key: ApiKey) -> IssuedKey:
        """A new secret for the same key, whose counters go on; the old one ends at once. Raises
        `Conflict`."""
        issued = _with_secret(key)
        await self._keyring.save_key(issued.key, self._note("key.rotated"), before=key)
        return issued

    def checked(self, record: Team | User | ApiKey) -> Team | User | ApiKey:
        """The record with its names, limits and models checked, and models by catalog name.

        Raises `NameInvalid`, `ModelUnknown`, `BudgetUnpriced`."""
        limits = self.checked_limits(record.limits)
        if isinstance(record, ApiKey):
            models = self._known_models(record.models)
            return replace(record, limits=limits, name=checked_label(record.name), models=models)
        title = stored_title(record.title, checked_name(record.name))
        if isinstance(record, User):
            return replace(record, limits=limits, title=title)
        models, denied = self._known_models(record.models), self._known_models(record.denied_models)
        return replace(
            record, limits=limits, title=title, models=models, denied_models=denied or frozenset()
        )

    async def add(self, record: Team | User | ApiKey) -> None:
        """Write a new record as `checked` returned it. A key comes with the digest of a secret that
        somebody else has. Raises `Conflict`."""
        if isinstance(record, ApiKey):
            key = replace(record, id=_new_key_id())
            await self._keyring.save_key(key, self._note("key.created"))
        elif isinstance(record, User):
            await self._add(record)
        else:
            await self._put_team(record)

    async def change(
        self, before: Team | User | ApiKey, record: Team | User | ApiKey, verb: str = "updated"
    ) -> None:
        """Write a whole record as `checked` returned it in place of what it was `before`. Raises
        `Conflict`."""
        match before, record:
            case ApiKey(), ApiKey():
                await self._keyring.save_key(record, self._note(f"key.{verb}"), before=before)
            case User(), User():
                await self._replace(before, record, verb)
            case Team(), Team():
                note = self._note(f"team.{verb}")
                await self._keyring.save_team(record, note, create=False, before=before)

    async def raise_limits(self, before: Holder, by: Limits, until: str, zone: tzinfo) -> Holder:
        """Let a user, team or key use more until a time (`parse_until`), for the reason of these
        use cases. It replaces an earlier raise, ends by itself, and counts within five seconds.
        Raises `RaiseInvalid`, `Conflict`."""
        now_ms = await self._keyring.now_ms()
        until_ms = parse_until(until, now_ms, zone)
        raised = checked_raise(before.limits, by, until_ms, now_ms, self._reason)
        record = replace(before, raised=raised)
        await self.change(before, record, "raised")
        return record

    async def end_raise(self, before: Holder) -> Holder:
        """End a raise before its time. Raises `Conflict`."""
        record = replace(before, raised=None)
        await self.change(before, record, "raise_ended")
        return record

    async def issue_as(self, record: ApiKey) -> IssuedKey:
        """A new secret for a record without one, as `checked` returned it."""
        return await self._put(replace(record, id=_new_key_id()))

    async def _put(self, key: ApiKey) -> IssuedKey:
        issued = _with_secret(key)
        await self._keyring.save_key(issued.key, self._note("key.created"))
        return issued

    async def key(self, key_id: str) -> ApiKey:
        """Raises `KeyUnknown`."""
        key = await self._keyring.key(key_id)
        if key is None:
            raise KeyUnknown(f"There is no key {key_id!r}; see `koi keys list`.")
        return key


def select_by_secret(keys: Sequence[AnyKey], text: str) -> Sequence[AnyKey]:
    """Those of the keys that a secret, or its last characters (four at least), may belong to."""
    given = text.strip().lstrip("….*")
    digest = digest_secret(given)
    exact = [key for key in keys if key.digest == digest]
    if exact or len(given) < MIN_ENDING_CHARS:
        return exact
    return [key for key in keys if key.ending and key.ending.endswith(given[-ENDING_CHARS:])]


def _new_key_id() -> str:
    return f"key_{secrets.token_hex(8)}"


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
