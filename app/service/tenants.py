"""Use cases of the operator: users and teams, and what they may use."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from app.domain.catalog import Catalog
from app.domain.images import ResponseFormat
from app.domain.limits import Limits, SpendingStop
from app.domain.principal import CachePolicy, Team, User

if TYPE_CHECKING:
    from app.domain.ports import KeyRing

UserOrTeam = TypeVar("UserOrTeam", User, Team)
MAX_REASON_CHARS = 200
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class AdminError(Exception):
    """The operator asked for something impossible; the message says what to do."""


class NameInvalid(AdminError):
    pass


class NameTaken(AdminError):
    pass


class UserUnknown(AdminError):
    pass


class TeamUnknown(AdminError):
    pass


class KeyUnknown(AdminError):
    pass


class TeamInUse(AdminError):
    pass


class ModelUnknown(AdminError):
    pass


class BudgetUnpriced(AdminError):
    pass


class TenantAdmin:
    """`defaults` are the limits of new users."""

    def __init__(self, keyring: "KeyRing", catalog: Catalog, defaults: Limits) -> None:
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
            limits=self._checked_limits(limits if limits is not None else self._defaults),
            created_ms=await self._keyring.now_ms(),
            team=await self._known_team(team),
            cache=cache,
            response_format=response_format,
        )
        if not await self._put_user(user):
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
            limits=self._checked_limits(limits),
            cache=cache,
            response_format=response_format,
        )
        await self._keyring.save_user(user, create=False)
        return user

    async def user(self, name: str) -> User:
        user = await self._keyring.user(name)
        if user is None or user.deleted_ms is not None:
            raise UserUnknown(f"There is no user {name!r}; see `koi users list`.")
        return user

    async def ensure_user(self, name: str, *, new: bool) -> None:
        """Create an unknown user with the default limits if `new`; raises `UserUnknown` if not."""
        known = await self._keyring.user(name)
        if known is not None and known.deleted_ms is None:
            return
        if not new:
            raise UserUnknown(
                f"There is no user {name!r}; see `koi users list`, or add --new to create one."
            )
        await self.create_user(name)

    async def users(self) -> Sequence[User]:
        return [user for user in await self._keyring.users() if user.deleted_ms is None]

    async def disable_user(self, name: str, *, disabled: bool) -> User:
        """Make a user's keys stop working, or work again. Gateways notice within five seconds;
        running jobs go on. Raises `UserUnknown`."""
        before = await self.user(name)
        user = await self._with_disabled(before, disabled=disabled)
        if user != before:
            await self._keyring.save_user(user, create=False)
        return user

    async def create_team(self, name: str, limits: Limits) -> Team:
        """Raises `NameInvalid`, `NameTaken`, `BudgetUnpriced`."""
        team = Team(_checked(name), self._checked_limits(limits), await self._keyring.now_ms())
        if not await self._put_team(team):
            raise NameTaken(f"There is a team {name!r} already; use `koi teams set`.")
        return team

    async def set_team(self, name: str, limits: Limits) -> Team:
        team = replace(await self.team(name), limits=self._checked_limits(limits))
        await self._keyring.save_team(team, create=False)
        return team

    async def team(self, name: str) -> Team:
        team = await self._keyring.team(name)
        if team is None or team.deleted_ms is not None:
            raise TeamUnknown(f"There is no team {name!r}; see `koi teams list`.")
        return team

    async def teams(self) -> Sequence[Team]:
        return [team for team in await self._keyring.teams() if team.deleted_ms is None]

    async def disable_team(self, name: str, *, disabled: bool) -> Team:
        """The same for the keys of all the team's users. Raises `TeamUnknown`."""
        before = await self.team(name)
        team = await self._with_disabled(before, disabled=disabled)
        if team != before:
            await self._keyring.save_team(team, create=False)
        return team

    async def delete_team(self, name: str) -> None:
        """Delete a team, and end a stop of its spending. Raises `TeamUnknown`, and `TeamInUse`
        while it has users."""
        team = await self.team(name)
        members = sorted(user.name for user in await self.users() if user.team == name)
        if members:
            raise TeamInUse(
                f"Team {name!r} still has users ({', '.join(members[:5])}); move them first: "
                f"koi users set {members[0]} --team none"
            )
        now_ms = await self._keyring.now_ms()
        await self._keyring.save_team(replace(team, deleted_ms=now_ms), create=False)
        await self.resume_spending(f"team:{name}")

    async def stop_spending(self, scope: str, reason: str) -> SpendingStop:
        """Refuse all spending of a scope (`house`, `user:…`, `team:…`) from now on, on all gateways
        at once, because each admission reads the stops."""
        stop = SpendingStop(scope, _sentence(reason), await self._keyring.now_ms())
        await self._keyring.save_stop(stop, stopped=True)
        return stop

    async def resume_spending(self, scope: str) -> bool:
        """End a stop; whether there was one."""
        found = [stop for stop in await self._keyring.stops() if stop.scope == scope]
        for stop in found:
            await self._keyring.save_stop(stop, stopped=False)
        return bool(found)

    async def stops(self) -> Sequence[SpendingStop]:
        return await self._keyring.stops()

    async def _with_disabled(self, holder: UserOrTeam, *, disabled: bool) -> UserOrTeam:
        """The record, disabled or enabled; unchanged when it is so already."""
        if (holder.disabled_ms is not None) is disabled:
            return holder
        return replace(holder, disabled_ms=await self._keyring.now_ms() if disabled else None)

    async def _put_user(self, user: User) -> bool:
        """Write a new user, also under the name of a deleted one; false when the name is taken."""
        before = await self._keyring.user(user.name)
        reused = before is not None and before.deleted_ms is not None
        return await self._keyring.save_user(user, create=not reused)

    async def _put_team(self, team: Team) -> bool:
        before = await self._keyring.team(team.name)
        reused = before is not None and before.deleted_ms is not None
        return await self._keyring.save_team(team, create=not reused)

    async def _known_team(self, name: str | None) -> str | None:
        return None if name is None else (await self.team(name)).name

    def _checked_limits(self, limits: Limits) -> Limits:
        """A money budget on a model without a price could not be kept, so it is refused here."""
        if limits.has_budget and self._catalog.unpriced:
            names = ", ".join(self._catalog.unpriced)
            raise BudgetUnpriced(
                f"No price is known for {names}; set [models.prices] in the catalog "
                "(KOI_CATALOG) before setting a money budget."
            )
        return limits


def _checked(name: str) -> str:
    if NAME_PATTERN.fullmatch(name) is None:
        raise NameInvalid(
            f"{name!r} cannot be a name: use letters, digits and . _ @ + - (at most 64)."
        )
    return name


def _sentence(reason: str) -> str:
    """One line for callers to read, with a full stop."""
    text = " ".join(reason.split())[:MAX_REASON_CHARS]
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."
