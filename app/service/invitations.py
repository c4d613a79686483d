"""Use cases on invitations: make a link, withdraw it, turn it into a key."""

import asyncio
import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from app.domain.administration import Actor, ActorKind, AuditNote, Conflict
from app.domain.invitation import (
    Invitation,
    InvitationEnded,
    InvitationRing,
    InvitationStatus,
)
from app.domain.limits import Limits
from app.domain.secret_digest import digest_secret
from app.domain.team_bounds import TeamBounds
from app.service.admin_errors import InvitationUnknown, NameTaken
from app.service.keys import IssuedKey, KeyAdmin, make_key
from app.service.team_records import TeamInvitationRing, TeamKeyRing
from app.service.teams import checked_label, one_line

if TYPE_CHECKING:
    from app.domain.ports import KeyRing

TOKEN_PREFIX = "koi-inv-"  # noqa: S105
DEFAULT_LIFE = timedelta(days=7)
MAX_LIFE = timedelta(days=366)
ENDED = "This invitation was used already, was withdrawn, or never existed. Ask for a new one."
_GONE = "The user of this invitation is disabled or gone. Ask the operator."
REFUSALS: Mapping[InvitationStatus, str] = {
    "revoked": "This invitation was withdrawn. Ask for a new one.",
    "expired": "This invitation has expired. Ask for a new one.",
    "user_deleted": _GONE,
    "user_disabled": _GONE,
    "user_moved": "The user of this invitation left the team. Ask the operator.",
}


@dataclass(frozen=True, slots=True)
class IssuedInvitation:
    """A new invitation. `token` is part of the link, is shown once and never stored."""

    token: str
    invitation: Invitation


def invitation_path(token: str) -> str:
    """Where the page takes it. What follows # stays in the browser, so it is in no log."""
    return f"/#/invite/{token}"


class Invitations:
    """`keys` are the use cases on users; the audit log will say that `actor` made each change."""

    def __init__(
        self,
        ring: InvitationRing,
        keyring: "KeyRing",
        keys: KeyAdmin,
        actor: Actor,
        reason: str = "",
    ) -> None:
        self._ring, self._keyring, self._keys = ring, keyring, keys.acting_as(actor, reason)
        self._actor, self._reason = actor, one_line(reason)

    def acting_as(self, actor: Actor | None = None, reason: str = "") -> "Invitations":
        return Invitations(self._ring, self._keyring, self._keys, actor or self._actor, reason)

    def held_to(self, bounds: TeamBounds) -> "Invitations":
        """Those of one team's users."""
        ring = TeamInvitationRing(self._ring, self._keyring, bounds)
        keyring = TeamKeyRing(self._keyring, bounds, self._keys.defaults)
        keys = self._keys.held_to(bounds)
        return Invitations(ring, keyring, keys, self._actor, self._reason)

    async def create(
        self,
        user: str,
        *,
        team: str | None = None,
        name: str = "",
        life: timedelta = DEFAULT_LIFE,
        limits: Limits | None = None,
    ) -> IssuedInvitation:
        """A link for a user, who is created in the team when there is none, with the default limits
        unless others are given. Raises `NameInvalid`, `TeamUnknown`, and `NameTaken` for a user
        that is in another team."""
        label = checked_label(name)
        await self._ensure_user(user, team, limits)
        now_ms, token = await self._keyring.now_ms(), _new_token()
        invitation = Invitation(
            id=f"key_{secrets.token_hex(8)}",
            user=user,
            name=label,
            digest=digest_secret(token),
            created_ms=now_ms,
            expires_ms=now_ms + round(life.total_seconds() * 1000),
        )
        await self._ring.save_invitation(invitation, self._note("created"))
        return IssuedInvitation(token, invitation)

    async def invitations(self) -> Sequence[Invitation]:
        """Those that were not accepted, oldest first."""
        return await self._ring.invitations()

    async def statuses(self, invitations: Iterable[Invitation]) -> Sequence[InvitationStatus]:
        """What became of each by now."""
        found = list(invitations)
        users = await asyncio.gather(*(self._keyring.user(one.user) for one in found))
        now_ms = await self._keyring.now_ms()
        return [one.status(user, now_ms) for one, user in zip(found, users, strict=True)]

    async def revoke(self, invitation_id: str) -> Invitation:
        """Withdraw an invitation. Raises `InvitationUnknown`, also for one that became a key."""
        for before in await self._ring.invitations():
            if before.id == invitation_id:
                if before.revoked_ms is not None:
                    return before
                after = replace(before, revoked_ms=await self._keyring.now_ms())
                await self._ring.save_invitation(after, self._note("revoked"), before=before)
                return after
        raise InvitationUnknown(f"There is no open invitation {invitation_id!r}.")

    async def accept(self, token: str) -> IssuedKey:
        """The key of a link, once, however many ask at the same time. Raises `InvitationEnded`."""
        invitation = (
            await self._ring.invitation(digest_secret(token)) if _is_well_formed(token) else None
        )
        if invitation is None:
            raise InvitationEnded(ENDED)
        now_ms = await self._keyring.now_ms()
        status = invitation.status(await self._keyring.user(invitation.user), now_ms)
        if status != "open":
            raise InvitationEnded(REFUSALS[status])
        issued = make_key(invitation.id, invitation.user, invitation.name, now_ms)
        actor = Actor(ActorKind.INVITATION, invitation.id)
        try:
            await self._ring.accept(
                invitation, issued.key, AuditNote(actor, "invitation.accepted", "")
            )
        except Conflict:
            raise InvitationEnded(ENDED) from None
        return issued

    async def _ensure_user(self, name: str, team: str | None, limits: Limits | None) -> None:
        known = await self._keyring.user(name)
        if known is None or known.deleted_ms is not None:
            await self._keys.create_user(name, team=team, limits=limits)
        elif team is not None and known.team != team:
            raise NameTaken(
                f"User {name!r} exists and is not in team {team!r}; use `koi users set` first."
            )

    def _note(self, verb: str) -> AuditNote:
        return AuditNote(self._actor, f"invitation.{verb}", self._reason)


def _new_token() -> str:
    """256 random bits with a checksum, so that one that was copied badly is not looked up."""
    body = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return f"{body}-{_checksum(body)}"


def _is_well_formed(token: str) -> bool:
    body, _, checksum = token.rpartition("-")
    return token.isascii() and body.startswith(TOKEN_PREFIX) and checksum == _checksum(body)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
