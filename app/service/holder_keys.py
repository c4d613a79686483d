"""Use cases of holders on their own keys: see, replace, end, create, narrow.

Nothing here gives anybody more than the operator gave. A key is limited by its user and team
whatever it says itself; beyond that a holder can only take away. A key with limits or models of its
own manages no other key: the next one would be freer, or would begin to count anew.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta

from app.domain.directory import DirectoryReader
from app.domain.errors import InvalidRequest
from app.domain.holders import HolderNotAllowed, KeyManagement
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Principal
from app.service.admin_errors import KeyUnknown
from app.service.caller_limits import TokenBuckets
from app.service.keys import IssuedKey, KeyAdmin

MAX_KEYS = 50
"""Usable keys of one user; an operator may issue more."""
MAX_SPENT_KEYS = 20
"""Keys of one user that were made within a day and have ended; each is a record for ever."""
MAX_CHANGES_PER_HOUR = 60
"""Of one user in one process: each change pushes the oldest one out of the audit log, and has all
records read again. Revoking does not count: it may be urgent, and happens once to a key."""
MS = timedelta(milliseconds=1)
DAY_MS = timedelta(days=1) // MS
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a holder asks of a new key; None is as the user may."""

    name: str
    limits: Limits
    models: frozenset[str] | None = None
    expires_in: timedelta | None = None


class HolderKeys:
    def __init__(self, keys: KeyAdmin, directory: DirectoryReader, allowed: KeyManagement) -> None:
        self._keys, self._directory, self.allowed = keys, directory, allowed
        self._changes = TokenBuckets(MAX_CHANGES_PER_HOUR / HOUR_S, HOUR_S, time.monotonic)

    async def list(self, principal: Principal) -> Sequence[ApiKey]:
        """The user's keys that were not revoked, oldest first."""
        directory = await self._directory.read()
        keys = directory.keys_of.get(principal.user, ())
        return [key for key in reversed(keys) if key.revoked_ms is None]

    async def last_used(self, keys: Sequence[ApiKey]) -> Mapping[str, int]:
        """When these were used last, by key id: Unix milliseconds, to the minute."""
        return await self._directory.last_used([key.id for key in keys])

    async def rotate(self, principal: Principal, key_id: str, overlap: timedelta) -> IssuedKey:
        """A new secret with the same rights. The old one ends after the overlap; without one, or
        where the key has limits of its own, at once, and it is the same key, whose counters go on.

        Raises `KeyUnknown`, `HolderNotAllowed`."""
        self._require(KeyManagement.ROTATE)
        key = await self._manageable(principal, key_id)
        self._count_change(principal)
        admin = self._acting(principal)
        if not overlap or _is_narrow(key):
            return await admin.replace_secret(key)
        now_ms = await self._keys.now_ms()
        if key.expires_ms is not None and key.expires_ms <= now_ms + overlap / MS:
            raise HolderNotAllowed(RUNNING_OUT)
        await self._require_room(principal, now_ms)
        return await admin.rotate(key.id, overlap)

    async def revoke(self, principal: Principal, key_id: str) -> ApiKey:
        """Raises `KeyUnknown`, `HolderNotAllowed`."""
        self._require(KeyManagement.ROTATE)
        key = await self._manageable(principal, key_id)
        return await self._acting(principal).revoke(key.id)

    async def create(self, principal: Principal, wanted: NewKey) -> IssuedKey:
        """Raises `HolderNotAllowed`, `InvalidRequest`, `ModelUnknown`, `NameInvalid`."""
        self._require(KeyManagement.ALL)
        own = await self.own(principal)
        if _is_narrow(own):
            raise HolderNotAllowed(NARROW)
        self._count_change(principal)
        await self._require_room(principal, await self._keys.now_ms())
        _require_within(wanted.limits, await self._limits_of_user(principal))
        return await self._acting(principal).issue(
            principal.user,
            name=wanted.name or f"key-{secrets.token_hex(3)}",
            expires_in=await self._shortest(own, wanted.expires_in),
            models=wanted.models,
            limits=wanted.limits,
        )

    async def narrow(
        self, principal: Principal, key_id: str, *, name: str | None, limits: Limits | None
    ) -> ApiKey:
        """Change the name of a key, or lower its limits: only an operator raises them.

        Raises `KeyUnknown`, `HolderNotAllowed`, `InvalidRequest`, `NameInvalid`."""
        self._require(KeyManagement.ALL)
        key = await self._manageable(principal, key_id)
        self._count_change(principal)
        if limits is not None:
            _require_within(limits, key.limits, lower=True)
            _require_within(limits, await self._limits_of_user(principal))
        return await self._acting(principal).set_key(
            key,
            limits=key.limits if limits is None else limits,
            name=name or key.name,
            models=key.models,
            expires_ms=key.expires_ms,
            response_format=key.response_format,
        )

    async def require_unrestricted(self, principal: Principal) -> None:
        """For what is the user's rather than the key's. Raises `HolderNotAllowed` for a key that is
        narrower than its user or ends."""
        if _is_restricted(await self.own(principal)):
            raise HolderNotAllowed(NOT_FOR_RESTRICTED)

    def _acting(self, principal: Principal) -> KeyAdmin:
        return self._keys.acting_as(principal.actor)

    def _require(self, wanted: KeyManagement) -> None:
        order = tuple(KeyManagement)
        if order.index(self.allowed) < order.index(wanted):
            raise HolderNotAllowed(
                "The operator of this gateway manages keys; nothing was changed. Ask them."
            )

    def _count_change(self, principal: Principal) -> None:
        """Raises `HolderNotAllowed`."""
        if self._changes.take(principal.user):
            raise HolderNotAllowed(
                f"You changed your keys {MAX_CHANGES_PER_HOUR} times within an hour; nothing was "
                "changed. Go on later, or ask the operator."
            )

    async def _require_room(self, principal: Principal, now_ms: int) -> None:
        """For one more key beside those that work, and those of today that ended. Raises
        `HolderNotAllowed`."""
        keys = (await self._directory.read()).keys_of.get(principal.user, ())
        if sum(key.is_usable(now_ms) for key in keys) >= MAX_KEYS:
            raise HolderNotAllowed(
                f"You have {MAX_KEYS} keys already; nothing was changed. Revoke one, or ask the "
                "operator."
            )
        spent = [k for k in keys if k.created_ms > now_ms - DAY_MS and not k.is_usable(now_ms)]
        if len(spent) >= MAX_SPENT_KEYS:
            raise HolderNotAllowed(
                f"{MAX_SPENT_KEYS} keys of yours were made within a day and have ended; nothing "
                "was changed. Go on tomorrow, or ask the operator."
            )

    async def own(self, principal: Principal) -> ApiKey:
        """The key that asks. A person who signed in without one is asked for as an unrestricted key
        of that user. Raises `KeyUnknown`."""
        if principal.person is not None:
            return ApiKey(principal.key_id, principal.user, "", "", Limits(), 0)
        return await self._keys.key(principal.key_id)

    async def _manageable(self, principal: Principal, key_id: str) -> ApiKey:
        """A usable key of the same user that this one may manage: itself, or any other when it is
        neither narrower nor ends earlier. Raises `KeyUnknown`, `HolderNotAllowed`."""
        own, key = await self.own(principal), await self._keys.key(key_id)
        if key.user != principal.user or not key.is_usable(await self._keys.now_ms()):
            raise KeyUnknown("You have no such key, or it has ended.")
        if key.id != own.id and _is_restricted(own):
            raise HolderNotAllowed(NARROW)
        return key

    async def _limits_of_user(self, principal: Principal) -> Limits:
        return (await self._keys.user(principal.user)).limits

    async def _shortest(self, own: ApiKey, wanted: timedelta | None) -> timedelta | None:
        """A key that ends makes none that ends later."""
        if own.expires_ms is None:
            return wanted
        left = timedelta(milliseconds=own.expires_ms - await self._keys.now_ms())
        return left if wanted is None else min(left, wanted)


NARROW = (
    "The key you are signed in with is restricted itself, so it manages no other keys; nothing was "
    "changed. Sign in with an unrestricted key, or ask the operator."
)

RUNNING_OUT = (
    "This key ends within the overlap already, as one that was rotated before; nothing was "
    "changed. Use the key that replaced it, or replace the secret without an overlap."
)
NOT_FOR_RESTRICTED = (
    "The key of this request is restricted or ends itself, so it neither sees nor changes what is "
    "all its user's; nothing was changed. Use an unrestricted key, or ask the operator."
)


def _is_narrow(key: ApiKey) -> bool:
    return key.limits != Limits() or key.models is not None


def _is_restricted(key: ApiKey) -> bool:
    return _is_narrow(key) or key.expires_ms is not None


def _require_within(wanted: Limits, most: Limits, *, lower: bool = False) -> None:
    """Raises `InvalidRequest` when a limit is above `most`, or, to `lower` it, takes one away."""
    for field in fields(Limits):
        limit, bound = getattr(wanted, field.name), getattr(most, field.name)
        if bound is None:
            continue
        if (limit is None and lower) or (limit is not None and limit > bound):
            raise InvalidRequest(
                "invalid_value",
                "A limit of your own can only be lower than what you have; nothing was changed. "
                "Ask the operator for more.",
                param="limits",
            )
