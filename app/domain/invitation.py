"""Invitations: a link that turns into a user's API key, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.domain.administration import AuditNote
from app.domain.errors import GatewayError
from app.domain.principal import ApiKey, User

InvitationStatus = Literal[
    "open", "expired", "revoked", "user_deleted", "user_disabled", "user_moved"
]
"""Only the link of an open one gives a key. A user may be enabled again, or come back to the team
for which the invitation was made."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`id` becomes the key's, `name` its name. `digest` is the SHA-256 (hex) of the link's token,
    which is never stored. Times are Unix milliseconds of the store's clock. One that was made for a
    `team` by who administers it ends when its user leaves that team."""

    id: str
    user: str
    name: str
    digest: str
    created_ms: int
    expires_ms: int
    revoked_ms: int | None = None
    ending: str = ""
    team: str | None = None

    def status(self, user: User | None, now_ms: int) -> InvitationStatus:
        """`user` is who has that name by now. Who came later under the same name is somebody else:
        whoever makes an invitation makes the user first."""
        if self.revoked_ms is not None:
            return "revoked"
        if now_ms >= self.expires_ms:
            return "expired"
        if user is None or user.deleted_ms is not None or user.created_ms > self.created_ms:
            return "user_deleted"
        if user.disabled_ms is not None:
            return "user_disabled"
        if self.team is not None and user.team != self.team:
            return "user_moved"
        return "open"


class InvitationEnded(GatewayError):
    """A link that gives no key: used, withdrawn, expired, or never made."""

    code = "invitation_ended"


class InvitationRing(Protocol):
    """The records of invitations. Each change adds its record to the audit log."""

    async def save_invitation(
        self, invitation: Invitation, note: AuditNote, *, before: Invitation | None = None
    ) -> None:
        """Raises `Conflict` when it is not what it was `before` any more."""

    async def invitation(self, digest: str) -> Invitation | None:
        """That of a token's SHA-256, expired and withdrawn ones too."""

    async def invitations(self) -> Sequence[Invitation]:
        """Those that were not accepted, oldest first."""

    async def accept(self, invitation: Invitation, key: ApiKey, note: AuditNote) -> None:
        """Put the key in the invitation's place, in one write. Raises `Conflict` when somebody
        else did so before, or withdrew it."""
