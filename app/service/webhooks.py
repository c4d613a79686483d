"""Use cases of webhooks: which URL a request asks for, and what became of a user's deliveries."""

from collections.abc import Sequence

from app.domain.administration import Actor, ObjectNotFound
from app.domain.cache import CacheOutcome
from app.domain.errors import InvalidRequest
from app.domain.principal import Principal
from app.domain.webhooks import (
    Delivery,
    DeliveryQueue,
    ReceiverUnreachable,
    WebhookEvent,
    WebhookPoster,
    WebhookTarget,
)
from app.service.admin_errors import WebhookInvalid
from app.service.generation import GenerateCommand, StartedJob
from app.service.webhook_secrets import WebhookSecret, WebhookSecrets

UNTOLD = {
    "full": "The same picture is under way for somebody already, and as many webhooks as one task "
    "may have are told of it. Nothing was charged to you. Repeat this without a webhook, or once "
    "that task has ended.",
    "missing": "The same picture was made before, by a task that is not kept any more, so that "
    "nobody can be told of its end. Nothing was charged to you. Repeat this without a webhook and "
    "read the answer.",
}
"""Why a request's webhook is told nothing, by what the queue answers."""


class Webhooks:
    def __init__(
        self,
        queue: DeliveryQueue,
        poster: WebhookPoster,
        secrets: WebhookSecrets,
        lifetime_ms: int,
    ) -> None:
        """`lifetime_ms` is how long a delivery is tried."""
        self._queue, self._poster, self._secrets = queue, poster, secrets
        self._lifetime_ms = lifetime_ms

    def choose_target(
        self,
        principal: Principal,
        url: str | None,
        events: tuple[WebhookEvent, ...],
        origin: str,
    ) -> WebhookTarget | None:
        """Where the end of a request's task is told: the URL it names, or the default of its key or
        user. Raises `InvalidRequest`."""
        if url is not None:
            try:
                self._poster.check_url(url)
            except ReceiverUnreachable as error:
                raise InvalidRequest(
                    "invalid_value",
                    f"webhook must be an https URL that this gateway may post to: {error.reason}. "
                    "Nothing was charged.",
                    param="webhook",
                ) from None
        wanted = url or principal.webhook
        if wanted is None:
            return None
        return WebhookTarget(wanted, principal.user, origin, self._lifetime_ms, events)

    async def tell_of(self, started: StartedJob, command: GenerateCommand, *, asked: bool) -> None:
        """Tell a request's URL of a job that was there before it; `asked` says that the caller
        expects to be told rather than answered. A job's own request is in its record. Raises
        `InvalidRequest` when one that expects it cannot be told."""
        target, hit = command.webhook, started.cache is CacheOutcome.HIT
        if target is None or not (started.joined or (hit and asked)):
            return
        caller = started.caller.id if hit and started.caller is not None else None
        added = await self._queue.add_webhook(started.job.id, target, caller)
        if added in UNTOLD and asked:
            raise InvalidRequest("invalid_value", UNTOLD[added], param="webhook")

    async def list_newest(self, user: str, limit: int, *, failed: bool) -> Sequence[Delivery]:
        return await self._queue.list_newest(user, limit, failed=failed)

    async def redeliver(self, id: str, user: str | None = None) -> Delivery:
        """Try a delivery again from now on, of this user or anybody. Raises `ObjectNotFound`."""
        found = await self._queue.find(id)
        mine = found is not None and user in (None, found.user)
        if found is None or not mine or not await self._queue.redeliver(id, self._lifetime_ms):
            raise ObjectNotFound(
                "There is no such delivery to send again: it is listed for three days, and 1,000 "
                "deliveries of one user may wait."
            )
        return await self._queue.find(id) or found

    async def read_secret(self, user: str, actor: Actor) -> WebhookSecret:
        return await self._secrets.read(user, actor)

    async def rotate_secret(self, user: str, actor: Actor) -> WebhookSecret:
        return await self._secrets.rotate(user, actor)


def check_default_webhook(poster: WebhookPoster, url: str) -> str:
    """The URL. Raises `WebhookInvalid`."""
    try:
        poster.check_url(url)
    except ReceiverUnreachable as error:
        raise WebhookInvalid(
            f"A webhook must be an https URL at a public address: {error.reason}. Private hosts "
            "are named in KOI_WEBHOOK_HOSTS."
        ) from None
    return url
