"""The secrets that sign a user's webhooks: one now, and the one before for a day."""

from dataclasses import dataclass, replace

from app.domain.administration import Actor, AuditNote, Conflict
from app.domain.principal import KeyRing, User
from app.service.admin_errors import UserUnknown
from app.service.webhook_signature import new_webhook_secret

OVERLAP_MS = 86_400_000
"""For how long deliveries are signed with the secret before as well."""

STILL_SIGNS = (
    "The webhook secret was replaced within the last day, and the one before still signs beside "
    "it; nothing was changed. Repeat this when previous_signs_until is over."
)


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """`until_ms` is how long the secret before it signs too, None when there is none."""

    secret: str
    created_ms: int
    until_ms: int | None


class WebhookSecrets:
    """Every change is audited in the name of its actor, never with a secret."""

    def __init__(self, keyring: KeyRing, gateway: Actor) -> None:
        """`gateway` is who makes the first secret of a user who never asked for it."""
        self._keyring, self._gateway = keyring, gateway

    async def read(self, user: str, actor: Actor) -> WebhookSecret:
        """The user's secret; the first reader makes it. Raises `UserUnknown`."""
        return await self._described(await self._with_secret(user, actor))

    async def rotate(self, user: str, actor: Actor) -> WebhookSecret:
        """A new secret; the old one signs too for a day, in which there is no further one: it would
        end the first, which receivers may still verify with. Raises `UserUnknown`, `Conflict`."""
        found = await self._user(user)
        if (await self._described(found)).until_ms is not None:
            raise Conflict(STILL_SIGNS)
        return await self._described(await self._renew(found, actor))

    async def signing(self, user: str) -> tuple[str, ...]:
        """What deliveries are signed with now; nothing for a user who is gone."""
        try:
            found = await self._with_secret(user, self._gateway)
        except UserUnknown:
            return ()
        shown = await self._described(found)
        before = (found.webhook_secret_before,) if shown.until_ms is not None else ()
        return (shown.secret, *before)

    async def _with_secret(self, name: str, actor: Actor) -> User:
        user = await self._user(name)
        if user.webhook_secret:
            return user
        try:
            return await self._renew(user, actor)
        except Conflict:  # somebody else made it at the same moment
            return await self._user(name)

    async def _renew(self, user: User, actor: Actor) -> User:
        now_ms = await self._keyring.now_ms()
        renewed = replace(
            user,
            webhook_secret=new_webhook_secret(),
            webhook_secret_ms=now_ms,
            webhook_secret_before=user.webhook_secret,
        )
        note = AuditNote(actor, "user.webhook_secret_renewed")
        await self._keyring.save_user(renewed, note, create=False, before=user)
        return renewed

    async def _user(self, name: str) -> User:
        user = await self._keyring.user(name)
        if user is None or user.deleted_ms is not None:
            raise UserUnknown(f"There is no user {name!r}; see `koi users list`.")
        return user

    async def _described(self, user: User) -> WebhookSecret:
        created_ms = user.webhook_secret_ms or 0
        until_ms = created_ms + OVERLAP_MS
        signs = user.webhook_secret_before and await self._keyring.now_ms() < until_ms
        return WebhookSecret(user.webhook_secret, created_ms, until_ms if signs else None)
