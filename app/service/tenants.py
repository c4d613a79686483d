"""Use cases of the operator: users and their teams, and what they may use."""

from collections.abc import Sequence
from dataclasses import replace

from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.principal import CachePolicy, User
from app.service.admin_errors import NameTaken, TeamInUse, UserUnknown
from app.service.teams import TeamAdmin, checked_name, stored_title


class TenantAdmin(TeamAdmin):
    """Users, beside what `TeamAdmin` does."""

    async def create_user(
        self,
        name: str,
        *,
        team: str | None = None,
        limits: Limits | None = None,
        cache: CachePolicy | None = None,
        response_format: ResponseFormat | None = None,
        title: str = "",
    ) -> User:
        """A user with the default limits unless others are given.

        Raises `NameInvalid`, `NameTaken`, `TeamUnknown`, `BudgetUnpriced`.
        """
        user = User(
            name=checked_name(name),
            limits=self.checked_limits(limits if limits is not None else self.defaults),
            created_ms=await self._keyring.now_ms(),
            team=await self._known_team(team),
            cache=cache,
            response_format=response_format,
            title=stored_title(title, name),
        )
        return await self._add(user)

    async def create_service_account(
        self, name: str, team: str, *, title: str = "", limits: Limits | None = None
    ) -> User:
        """An app of a team, with the default limits unless others are given. Raises as
        `create_user`."""
        user = User(
            name=checked_name(name),
            limits=self.checked_limits(self.defaults if limits is None else limits),
            created_ms=await self._keyring.now_ms(),
            team=(await self.team(team)).name,
            title=stored_title(title, name),
            service_account=True,
        )
        return await self._add(user)

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
        before = await self.user(name)
        user = replace(
            before,
            team=await self._known_team(team),
            limits=self.checked_limits(limits),
            cache=cache,
            response_format=response_format,
        )
        return await self._replace(before, user, "updated")

    async def set_user_limits(self, name: str, limits: Limits) -> User:
        """Raises `UserUnknown`, `BudgetUnpriced`."""
        before = await self.user(name)
        user = replace(before, limits=self.checked_limits(limits))
        return await self._replace(before, user, "updated")

    async def move_user(self, name: str, team: str | None) -> User:
        """Raises `UserUnknown`, `TeamUnknown`."""
        before = await self.user(name)
        user = replace(before, team=await self._known_team(team))
        return await self._replace(before, user, "updated")

    async def rename_user(self, name: str, title: str) -> User:
        """What people call a user; the name stays. Raises `UserUnknown`, `NameInvalid`."""
        before = await self.user(name)
        user = replace(before, title=stored_title(title, name))
        return await self._replace(before, user, "updated")

    async def set_user_webhook(self, name: str, url: str | None) -> User:
        """Who is told how the user's tasks end, unless a request or its key says. Raises
        `UserUnknown`, `Conflict`."""
        before = await self.user(name)
        return await self._replace(before, replace(before, webhook=url), "updated")

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

    async def all_users(self) -> Sequence[User]:
        """Deleted ones too."""
        return await self._keyring.users()

    async def users(self) -> Sequence[User]:
        return [user for user in await self._keyring.users() if user.deleted_ms is None]

    async def disable_user(self, name: str, *, disabled: bool) -> User:
        """Make a user's keys stop working, or work again. Gateways notice within five seconds;
        running jobs go on. Raises `UserUnknown`."""
        before = await self.user(name)
        user = await self._with_disabled(before, disabled=disabled)
        if user != before:
            await self._replace(before, user, "disabled" if disabled else "enabled")
        return user

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
        deleted, note = replace(team, deleted_ms=now_ms), self._note("team.deleted")
        await self._keyring.save_team(deleted, note, create=False, before=team)
        await self.resume_spending(f"team:{name}")

    async def _add(self, user: User) -> User:
        """Write a new user, also under the name of a deleted one, whose tasks it does not see."""
        before = await self._keyring.user(user.name)
        reused = before is not None and before.deleted_ms is not None
        user = replace(user, reused_ms=user.created_ms if reused else None)
        note = self._note(_kind(user, "created"))
        if not await self._keyring.save_user(user, note, create=not reused):
            raise NameTaken(f"There is a user {user.name!r} already; use `koi users set`.")
        return user

    async def _replace(self, before: User, user: User, verb: str) -> User:
        note = self._note(_kind(user, verb))
        await self._keyring.save_user(user, note, create=False, before=before)
        return user

    async def _known_team(self, name: str | None) -> str | None:
        return None if name is None else (await self.team(name)).name


def _kind(user: User, verb: str) -> str:
    return f"{'service_account' if user.service_account else 'user'}.{verb}"
