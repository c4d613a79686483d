"""Use cases of the operator: users, teams and their API keys."""

import hashlib
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from app.domain.catalog import Catalog
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.ports import KeyRing
from app.domain.principal import ApiKey, CachePolicy, Team, User

PREFIX = "sk-koi-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class KeysError(Exception):
    """The operator asked for something that cannot be; the message says what to do."""


class NameInvalid(KeysError):
    pass


class NameTaken(KeysError):
    pass


class UserUnknown(KeysError):
    pass


class TeamUnknown(KeysError):
    pass


class KeyUnknown(KeysError):
    pass


class ModelUnknown(KeysError):
    pass


class BudgetUnpriced(KeysError):
    pass


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. `secret` is shown once and never stored."""

    secret: str
    key: ApiKey


def new_secret() -> str:
    """256 random bits with a checksum, so that a mistyped key is told from a revoked one."""
    body = PREFIX + secrets.token_urlsafe(32)
    return f"{body}-{zlib.crc32(body.encode()):08x}"


class Keys:
    def __init__(self, keyring: KeyRing, catalog: Catalog, defaults: Limits) -> None:
        self._keyring = keyring
        self._catalog = catalog
        self._defaults = defaults

    async def create_user(
        self,
        name: str,
        *,
        team: str | None = None,
        limits: Limits | None = None,
        cache: CachePolicy | None = None,
        response_format: ResponseFormat | None = None,
    ) -> User:
        """A user with the default limits unless others are given.

        Raises `NameInvalid`, `NameTaken`, `TeamUnknown`, `BudgetUnpriced`.
        """
        user = User(
            name=_checked(name),
            limits=self._kept(limits if limits is not None else self._defaults),
            created_ms=await self._keyring.now_ms(),
            team=await self._known_team(team),
            cache=cache,
            response_format=response_format,
        )
        if not await self._keyring.put_user(user, create=True):
            raise NameTaken(f"There is a user {name!r} already; use `koi users set`.")
        return user

    async def set_user(
        self,
        name: str,
        *,
        team: str | None,
        limits: Limits,
        cache: CachePolicy | None,
        response_format: ResponseFormat | None = None,
    ) -> User:
        """Replace a user's team, limits, cache policy and response format; raises `UserUnknown`
        and as above."""
        user = replace(
            await self.user(name),
            team=await self._known_team(team),
            limits=self._kept(limits),
            cache=cache,
            response_format=response_format,
        )
        await self._keyring.put_user(user, create=False)
        return user

    async def user(self, name: str) -> User:
        user = await self._keyring.user(name)
        if user is None:
            raise UserUnknown(f"There is no user {name!r}; see `koi users list`.")
        return user

    async def users(self) -> Sequence[User]:
        return await self._keyring.users()

    async def create_team(self, name: str, limits: Limits) -> Team:
        """Raises `NameInvalid`, `NameTaken`, `BudgetUnpriced`."""
        team = Team(_checked(name), self._kept(limits), await self._keyring.now_ms())
        if not await self._keyring.put_team(team, create=True):
            raise NameTaken(f"There is a team {name!r} already; use `koi teams set`.")
        return team

    async def set_team(self, name: str, limits: Limits) -> Team:
        team = replace(await self.team(name), limits=self._kept(limits))
        await self._keyring.put_team(team, create=False)
        return team

    async def team(self, name: str) -> Team:
        team = await self._keyring.team(name)
        if team is None:
            raise TeamUnknown(f"There is no team {name!r}; see `koi teams list`.")
        return team

    async def teams(self) -> Sequence[Team]:
        return await self._keyring.teams()

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
        """A key for a user, who is created with the default limits when unknown."""
        if await self._keyring.user(user) is None:
            await self.create_user(user)
        now = await self._keyring.now_ms()
        return await self._put(
            ApiKey(
                id=f"key_{secrets.token_hex(8)}",
                user=user,
                digest="",
                name=name,
                limits=self._kept(limits if limits is not None else Limits()),
                created_ms=now,
                expires_ms=None if expires_in is None else now + _ms(expires_in),
                models=self._known_models(models),
                response_format=response_format,
            )
        )

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        return await self._keyring.keys(user)

    async def revoke(self, key_id: str) -> ApiKey:
        """Ends a key for good, on all workers within five seconds."""
        key = await self._known(key_id)
        if key.revoked_ms is None:
            key = replace(key, revoked_ms=await self._keyring.now_ms())
            await self._keyring.put_key(key)
        return key

    async def rotate(self, key_id: str, overlap: timedelta) -> IssuedKey:
        """A new secret with the same rights; the old one works until the overlap ends."""
        old = await self._known(key_id)
        now = await self._keyring.now_ms()
        if not old.usable(now):
            raise KeyUnknown(f"Key {key_id} is revoked or expired; create a new one.")
        issued = await self._put(
            replace(old, id=f"key_{secrets.token_hex(8)}", digest="", created_ms=now)
        )
        ends = now + _ms(overlap)
        await self._keyring.put_key(
            replace(old, expires_ms=min(ends, old.expires_ms) if old.expires_ms else ends)
        )
        return issued

    async def _put(self, key: ApiKey) -> IssuedKey:
        secret = new_secret()
        key = replace(key, digest=hashlib.sha256(secret.encode()).hexdigest())
        await self._keyring.put_key(key)
        return IssuedKey(secret, key)

    async def _known(self, key_id: str) -> ApiKey:
        key = await self._keyring.key(key_id)
        if key is None:
            raise KeyUnknown(f"There is no key {key_id!r}; see `koi keys list`.")
        return key

    async def _known_team(self, name: str | None) -> str | None:
        return None if name is None else (await self.team(name)).name

    def _known_models(self, models: frozenset[str] | None) -> frozenset[str] | None:
        for name in models or ():
            if self._catalog.called(name) is None:
                raise ModelUnknown(f"There is no enabled model {name!r} in the catalog.")
        return models and frozenset(m.name for n in models if (m := self._catalog.called(n)))

    def _kept(self, limits: Limits) -> Limits:
        """A money budget on a model without a price could not be kept, so it is refused here."""
        if limits.has_budget and self._catalog.unpriced:
            names = ", ".join(self._catalog.unpriced)
            raise BudgetUnpriced(
                f"No price is known for {names}; set [models.prices] in the catalog "
                "(KOI_CATALOG) before setting a money budget."
            )
        return limits


def _checked(name: str) -> str:
    if NAME.fullmatch(name) is None:
        raise NameInvalid(
            f"{name!r} cannot be a name: use letters, digits and . _ @ + - (at most 64)."
        )
    return name


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
