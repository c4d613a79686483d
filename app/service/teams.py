"""Use cases of the operator on teams, and on the spending of all or some."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from app.domain.administration import Actor, AuditNote
from app.domain.catalog import Catalog
from app.domain.limits import Limits, SpendingStop
from app.domain.principal import Team, User
from app.domain.team_bounds import TeamBounds
from app.service.admin_errors import (
    BudgetUnpriced,
    ModelUnknown,
    NameInvalid,
    NameTaken,
    TeamArchived,
    TeamUnknown,
)
from app.service.check_prices import say_what_is_unpriced
from app.service.team_records import TeamKeyRing

if TYPE_CHECKING:
    from app.domain.ports import KeyRing

UserOrTeam = TypeVar("UserOrTeam", User, Team)
MAX_REASON_CHARS = 200
MAX_TITLE_CHARS = 120
"""Of what people call a team, a user or a key."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class TeamAdmin:
    """`defaults` are the limits of new users. The audit log will say that `actor` made each change,
    and for which `reason`."""

    def __init__(
        self,
        keyring: "KeyRing",
        catalog: Catalog,
        defaults: Limits,
        actor: Actor,
        reason: str = "",
    ) -> None:
        self._keyring = keyring
        self._catalog = catalog
        self.defaults = defaults
        self._actor, self._reason = actor, one_line(reason)

    def acting_as(self, actor: Actor | None = None, reason: str = "") -> Self:
        """The same use cases for another actor, or for one reason."""
        return type(self)(self._keyring, self._catalog, self.defaults, actor or self._actor, reason)

    def held_to(self, bounds: TeamBounds) -> Self:
        """The same use cases within one team: what is of others is not there."""
        ring = TeamKeyRing(self._keyring, bounds, self.defaults)
        return type(self)(ring, self._catalog, self.defaults, self._actor, self._reason)

    async def create_team(self, name: str, limits: Limits, *, title: str = "") -> Team:
        """Raises `NameInvalid`, `NameTaken`, `BudgetUnpriced`."""
        now_ms = await self._keyring.now_ms()
        team = Team(
            checked_name(name),
            self.checked_limits(limits),
            now_ms,
            title=stored_title(title, name),
        )
        if not await self._put_team(team):
            raise NameTaken(f"There is a team {name!r} already; use `koi teams set`.")
        return team

    async def set_team(self, name: str, limits: Limits) -> Team:
        """Raises `TeamUnknown`, `BudgetUnpriced`."""
        return await self._update_team(name, limits=self.checked_limits(limits))

    async def rename_team(self, name: str, title: str) -> Team:
        """What people call a team; the name stays. Raises `TeamUnknown`."""
        return await self._update_team(name, title=stored_title(title, name))

    async def set_team_models(
        self, name: str, *, allowed: frozenset[str] | None, denied: frozenset[str] = frozenset()
    ) -> Team:
        """Which models a team's keys may use: of those `allowed` (None: all) the ones not `denied`.
        Raises `TeamUnknown`, `ModelUnknown`."""
        known, refused = self._known_models(allowed), self._known_models(denied)
        return await self._update_team(name, models=known, denied_models=refused or frozenset())

    async def find_team(self, name: str) -> Team | None:
        """A deleted one too."""
        return await self._keyring.team(name)

    async def team(self, name: str) -> Team:
        team = await self.find_team(name)
        if team is None or team.deleted_ms is not None:
            raise TeamUnknown(f"There is no team {name!r}; see `koi teams list`.")
        return team

    async def all_teams(self) -> Sequence[Team]:
        """Deleted ones too."""
        return await self._keyring.teams()

    async def teams(self) -> Sequence[Team]:
        return [team for team in await self._keyring.teams() if team.deleted_ms is None]

    async def disable_team(self, name: str, *, disabled: bool) -> Team:
        """The same for the keys of all the team's users. Raises `TeamUnknown`."""
        before = await self.team(name)
        team = await self._with_disabled(before, disabled=disabled)
        if team != before:
            if before.archived_ms is not None:
                raise TeamArchived(f"Team {name!r} is archived; use `koi teams restore {name}`.")
            note = self._note("team.disabled" if disabled else "team.enabled")
            await self._keyring.save_team(team, note, create=False, before=before)
        return team

    async def archive_team(self, name: str) -> Team:
        """Put a team away: the keys of its users are refused, and nothing is lost. Raises
        `TeamUnknown`."""
        before = await self.team(name)
        if before.archived_ms is not None:
            return before
        now_ms = await self._keyring.now_ms()
        # Gateways of an earlier version know that it is disabled.
        team = replace(before, archived_ms=now_ms, disabled_ms=before.disabled_ms or now_ms)
        note = self._note("team.archived")
        await self._keyring.save_team(team, note, create=False, before=before)
        return team

    async def restore_team(self, name: str) -> Team:
        """Undo `archive_team`; a team that was disabled before stays so. Raises `TeamUnknown`."""
        before = await self.team(name)
        if before.archived_ms is None:
            return before
        kept = None if before.disabled_ms == before.archived_ms else before.disabled_ms
        team = replace(before, archived_ms=None, disabled_ms=kept)
        note = self._note("team.restored")
        await self._keyring.save_team(team, note, create=False, before=before)
        return team

    async def stop_spending(self, scope: str, reason: str) -> SpendingStop:
        """Refuse all spending of a scope (`house`, `user:…`, `team:…`) from now on, on all gateways
        at once, because each admission reads the stops."""
        stop = SpendingStop(scope, _sentence(reason), await self._keyring.now_ms())
        await self._keyring.save_stop(stop, self._note("spending.stopped"), stopped=True)
        return stop

    async def resume_spending(self, scope: str) -> bool:
        """End a stop; whether there was one."""
        found = [stop for stop in await self._keyring.stops() if stop.scope == scope]
        for stop in found:
            await self._keyring.save_stop(stop, self._note("spending.resumed"), stopped=False)
        return bool(found)

    async def stops(self) -> Sequence[SpendingStop]:
        return await self._keyring.stops()

    async def _with_disabled(self, holder: UserOrTeam, *, disabled: bool) -> UserOrTeam:
        """The record, disabled or enabled; unchanged when it is so already."""
        if (holder.disabled_ms is not None) is disabled:
            return holder
        return replace(holder, disabled_ms=await self._keyring.now_ms() if disabled else None)

    async def _update_team(self, name: str, **fields: Any) -> Team:
        before = await self.team(name)
        team, note = replace(before, **fields), self._note("team.updated")
        await self._keyring.save_team(team, note, create=False, before=before)
        return team

    async def _put_team(self, team: Team) -> bool:
        before = await self._keyring.team(team.name)
        reused = before is not None and before.deleted_ms is not None
        return await self._keyring.save_team(team, self._note("team.created"), create=not reused)

    def _note(self, kind: str) -> AuditNote:
        return AuditNote(self._actor, kind, self._reason)

    def _known_models(self, models: frozenset[str] | None) -> frozenset[str] | None:
        """Their catalog names. Raises `ModelUnknown`."""
        if models is None:
            return None
        for name in models:
            if self._catalog.resolve(name) is None:
                raise ModelUnknown(f"There is no enabled model {name!r} in the catalog.")
        return frozenset(m.name for n in models if (m := self._catalog.resolve(n)))

    def checked_limits(self, limits: Limits) -> Limits:
        """A money budget on a model without a price could not be kept, so it is refused here."""
        if limits.has_budget and self._catalog.unpriced:
            raise BudgetUnpriced(say_what_is_unpriced(self._catalog, "a money budget"))
        return limits


def stored_title(title: str, name: str) -> str:
    """Empty when it is the name. Raises `NameInvalid`."""
    return "" if title == name else checked_title(title)


def checked_name(name: str) -> str:
    if NAME_PATTERN.fullmatch(name) is None:
        raise NameInvalid(
            f"{name!r} cannot be a name: use letters, digits and . _ @ + - (at most 64)."
        )
    return name


def checked_title(title: str) -> str:
    """What people call something, on one line. Raises `NameInvalid`."""
    text = " ".join(title.split())
    if len(text) > MAX_TITLE_CHARS or not text.isprintable():
        raise NameInvalid(f"A name must be printable, of at most {MAX_TITLE_CHARS} characters.")
    return text


def checked_label(label: str) -> str:
    """What somebody called a key, as it is. Raises `NameInvalid` when it is too long."""
    if len(label) > MAX_TITLE_CHARS:
        raise NameInvalid(f"A name takes at most {MAX_TITLE_CHARS} characters.")
    return label


def one_line(text: str) -> str:
    """A reason as it is kept: on one line, and Unicode also where a terminal sent other bytes."""
    return " ".join(text.encode(errors="replace").decode().split())[:MAX_REASON_CHARS]


def _sentence(reason: str) -> str:
    """One line for callers to read, with a full stop."""
    text = one_line(reason)
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."
