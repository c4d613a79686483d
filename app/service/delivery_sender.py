"""The loop that posts due deliveries: webhooks of users, notices to the operator.

Every process may deliver. A receiver has few tries at once, and so has a user, so that one that is
slow or dead holds up its own messages only.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.ports import Ledger
from app.domain.webhooks import (
    HOUSE_USER,
    Delivery,
    DeliveryQueue,
    DeliveryReport,
    DeliveryRoom,
    DeliveryState,
    ReceiverUnreachable,
    WebhookPoster,
)
from app.service.background import BackgroundTasks
from app.service.webhook_secrets import WebhookSecrets
from app.service.webhook_signature import build_signed_headers

MAX_DELIVERING = 64
MAX_PER_USER = 16
MAX_PER_RECEIVER = 4
CHECK_INTERVAL_S = 0.5
LEASE_MARGIN_MS = 1_000
PAUSES = (1, 6, 24, 120, 360, 720, 1440, 2880, 5760)
"""After each failed try, in units of `first_pause_ms`; the last one again and again."""
GONE = 410
NOBODY_TO_TELL = "its user was deleted"
COLLECTING = "its pictures are being downloaded: the task is told once it has ended"
NOTHING_TO_TELL = "the task has expired: there is nothing left to tell"


class DeliveryRecorder(Protocol):
    def delivery_tried(self, kind: str, outcome: str) -> None:
        """`kind` webhook or notice; `outcome` a `DeliveryState`, where waiting is a retry."""


class NoticeSender(Protocol):
    """Sends one notice. A process without a receiver leaves notices to those with one."""

    @property
    def has_receiver(self) -> bool: ...

    async def send(self, delivery: Delivery, now_ms: int) -> int:
        """The receiver's status. Raises `ReceiverUnreachable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySender:
    """`compose` makes the body about a job from its delivery."""

    queue: DeliveryQueue
    ledger: Ledger
    secrets: WebhookSecrets
    poster: WebhookPoster
    notices: NoticeSender
    compose: Callable[[Delivery, Job], bytes]
    recorder: DeliveryRecorder
    background: BackgroundTasks
    timeout_ms: int
    first_pause_ms: int
    receivers: Counter[str] = field(default_factory=Counter)
    users: Counter[str] = field(default_factory=Counter)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Claim due deliveries and post them, until cancelled or draining."""
        while not self.background.is_draining:
            claimed = 0
            with suppress(LedgerUnavailable):
                claimed = await self._claim()
            if not claimed:
                await self._wait()

    async def _wait(self) -> None:
        """Until a delivery has ended here, which makes room, or a while."""
        self.ended.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), CHECK_INTERVAL_S)

    async def _claim(self) -> int:
        total = MAX_DELIVERING - self.users.total()
        if total <= 0:
            return 0
        in_flight = {**self.receivers, **self.users}
        if not self.notices.has_receiver:
            in_flight[HOUSE_USER] = MAX_PER_USER
        room = DeliveryRoom(total, MAX_PER_RECEIVER, MAX_PER_USER, in_flight)
        found = await self.queue.claim(room, self.timeout_ms * 3 // 2 + LEASE_MARGIN_MS)
        for delivery in found.deliveries:
            self._count(delivery, 1)
            self.background.launch(self._deliver(delivery, found.now_ms), f"post {delivery.id}")
        return len(found.deliveries)

    def _count(self, delivery: Delivery, by: int) -> None:
        for counter, name in ((self.receivers, delivery.receiver), (self.users, delivery.user)):
            counter[name] += by
            if not counter[name]:
                del counter[name]

    async def _deliver(self, delivery: Delivery, now_ms: int) -> None:
        try:
            report = await self._try(delivery, now_ms)
            kind = "notice" if delivery.is_notice else "webhook"
            with suppress(LedgerUnavailable):
                self.recorder.delivery_tried(kind, await self.queue.report(report))
        except LedgerUnavailable:
            pass  # it is due again when its lease has ended
        finally:
            self._count(delivery, -1)
            self.ended.set()

    async def _try(self, delivery: Delivery, now_ms: int) -> DeliveryReport:
        """One try, and how it went. Raises `LedgerUnavailable`."""
        try:
            if delivery.is_notice:
                return self._judge(delivery, await self.notices.send(delivery, now_ms))
            job = await self.ledger.job(delivery.job_id or "")
            if job is None:
                return DeliveryReport(delivery, DeliveryState.FAILED, error=NOTHING_TO_TELL)
            if not job.ended:  # it may fail once more, by this same delivery
                return self._again(delivery, error=COLLECTING)
            if delivery.kind != f"task.{job.status}":
                return DeliveryReport(delivery, DeliveryState.SUPERSEDED)
            secrets = await self.secrets.signing(delivery.user)
            if not secrets:
                return DeliveryReport(delivery, DeliveryState.FAILED, error=NOBODY_TO_TELL)
            return self._judge(delivery, await self._post(delivery, job, secrets, now_ms))
        except ReceiverUnreachable as error:
            return self._again(delivery, error=error.reason)

    async def _post(self, delivery: Delivery, job: Job, secrets: Sequence[str], now_ms: int) -> int:
        body = self.compose(delivery, job)
        headers = build_signed_headers(delivery.id, now_ms // 1000, body, secrets)
        return (await self.poster.post(delivery.url, headers, body)).status

    def _judge(self, delivery: Delivery, status: int) -> DeliveryReport:
        if 200 <= status < 300:
            return DeliveryReport(delivery, DeliveryState.DELIVERED, status=status)
        if status == GONE:
            return DeliveryReport(
                delivery, DeliveryState.GONE, status=status, error="the receiver is gone (410)"
            )
        moved = "; redirects are not followed" if 300 <= status < 400 else ""
        return self._again(delivery, status, f"the receiver answered {status}{moved}")

    def _again(
        self, delivery: Delivery, status: int | None = None, error: str = ""
    ) -> DeliveryReport:
        number = min(max(delivery.round_tries, 1), len(PAUSES)) - 1
        pause_ms = PAUSES[number] * self.first_pause_ms * random.uniform(0.8, 1.0)  # noqa: S311
        return DeliveryReport(delivery, None, round(pause_ms), status, error)
