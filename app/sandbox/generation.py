"""One accepted generation: its progress over time, and what it costs."""

import math
import random
from dataclasses import dataclass

from app.sandbox.account import BillLine
from app.sandbox.contract import Failure, TaskView
from app.sandbox.faults.row import Bills, Fault
from app.sandbox.order import Order
from app.sandbox.switches import Switches

_QUEUED_SHARE = 0.1  # of the whole time


@dataclass(frozen=True, slots=True)
class FaultUse:
    """A fault chosen for one request, with its argument."""

    fault: Fault
    arg: str = ""


@dataclass(slots=True)
class Generation:
    """The provider's record of one accepted POST; times are Unix seconds."""

    task_id: str
    file_id: str
    request_id: str
    key: str
    order: Order
    take: int
    accepted_at: float
    finish_at: float
    link_base: str
    link_epoch: int
    link_expires: int
    use: FaultUse | None = None
    failure: Failure | None = None
    delivered: int = 0
    polls: int = 0
    polls_done: int = 0
    fetches: int = 0

    @property
    def made(self) -> int:
        """How many images the provider makes for this order."""
        extra = self.use.fault.extra_images if self.use else 0
        return max(0, self.order.n + extra)

    def view(self, now: float) -> TaskView:
        """The task at this time, before its result is built."""
        span = max(self.finish_at - self.accepted_at, 1e-6)
        share = (now - self.accepted_at) / span
        status, progress = "processing", min(99, max(1, int(share * 100)))
        if share < _QUEUED_SHARE:
            status, progress = "queued", 0
        failure = None
        if now >= self.finish_at:
            status, progress, failure = "completed", 100, self.failure
        if failure is not None:
            status, progress = "failed", 0
        return TaskView(
            self.task_id,
            self.order.model,
            status,
            progress,
            int(self.accepted_at),
            int(self.finish_at),
            self.link_expires,
            failure=failure,
        )

    def bill(self, now: float, switches: Switches) -> BillLine:
        """The line of the bill as of now."""
        rule = self._rule(switches)
        billed, fee = self._charges(rule, now, switches)
        return BillLine(
            self.request_id,
            self.key,
            self.order.model,
            self.order.n,
            self.delivered,
            billed,
            fee,
            int(self.accepted_at),
            self.order.quality,
            self.made if rule is Bills.REFUNDED and not billed else 0,
            len(self.order.references),
        )

    def _rule(self, switches: Switches) -> Bills:
        if self.use is None:
            return Bills.ALL
        if switches.fault_bills == "table":
            return self.use.fault.bills
        return Bills.ALL if switches.fault_bills == "always" else Bills.NOTHING

    def _charges(self, rule: Bills, now: float, switches: Switches) -> tuple[int, int]:
        if rule is Bills.NOTHING:
            return 0, 0
        if rule is Bills.REFUNDED:
            kept = switches.failed_billed or now < self.finish_at
            return (self.made if kept else 0), 0
        if rule is Bills.REFUSAL:
            return (self.made, self.made) if switches.moderation_billed else (0, 0)
        if rule is Bills.WITHHELD:
            fee = 1 if switches.moderation_billed else 0
            return self.made - 1 + fee, fee
        return self.made, 0


def draw_latency(seed: str, n: int, switches: Switches) -> float:
    """Seconds before scaling: the slowest of n log-normal draws, median 16, clipped to 10-30."""
    dice = random.Random(seed)  # noqa: S311
    slowest = 0.0
    for _ in range(n):
        draw = min(30.0, max(10.0, math.exp(math.log(16) + 0.35 * dice.gauss(0, 1))))
        if dice.random() < switches.tail_rate:
            draw = dice.uniform(60, 120)
        slowest = max(slowest, draw)
    return slowest * switches.latency_factor
