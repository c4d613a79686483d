"""What every step of a probe works with, and how a reply is written down."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.adapters.upstream.observation import ObservedReply, ReplyObserver
from app.adapters.upstream.retry_after import retry_after_s
from app.adapters.upstream.wire import ProviderReply
from app.domain.images import ProviderImage
from app.probe.answers import Answers
from app.probe.calls import ProviderCalls
from app.probe.pictures import PictureViewer
from app.probe.questions import Terms

THROTTLED_WAITS = 3
DEFAULT_WAIT_S, MAX_WAIT_S = 5.0, 60.0
STEP_S = 0.5


class ProbeStopped(Exception):
    """The operator interrupted; the same command goes on later."""


class ProviderAway(Exception):
    """The provider cannot be reached: nothing was sent."""


class KeyRefused(Exception):
    """The provider does not take the key."""


@dataclass(frozen=True, slots=True)
class ProbeParts:
    """`say` reports progress; `stopping` is asked between two steps."""

    calls: ProviderCalls
    viewer: PictureViewer
    observer: ReplyObserver
    answers: Answers
    terms: Terms
    say: Callable[[str], None]
    stopping: Callable[[], bool]

    def check_stop(self) -> None:
        """Raises `ProbeStopped`."""
        if self.stopping():
            raise ProbeStopped

    async def sleep(self, seconds: float) -> None:
        """Raises `ProbeStopped`."""
        end = time.monotonic() + seconds
        while True:
            self.check_stop()
            left = end - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, STEP_S))

    async def send_patiently(self, send: Callable[[], Awaitable[ProviderReply]]) -> ProviderReply:
        """A request that costs nothing, again when the provider asked to slow down."""
        for _ in range(THROTTLED_WAITS):
            reply = await send()
            if reply.status != 429:
                return reply
            await self.wait_throttled(reply)
        return await send()

    async def wait_throttled(self, reply: ProviderReply) -> None:
        """Wait as long as a 429 asks for. How the provider writes it is kept once."""
        if self.answers.find("throttled") is None:
            seen = self.observer.observe_answer(reply)
            self.answers.add("throttled", at=time.time(), **describe_reply(seen))
        wait_s = retry_after_s(reply.headers, None, time.time()) or DEFAULT_WAIT_S
        self.say(f"The provider asks to slow down; waiting {wait_s:.0f} s")
        await self.sleep(min(wait_s, MAX_WAIT_S))

    async def look(self, images: Sequence[ProviderImage]) -> list[dict[str, Any]]:
        return await self.viewer.look(images)


def describe_reply(seen: ObservedReply) -> dict[str, Any]:
    """The fields of a record."""
    outcome = seen.outcome
    return {
        "kind": outcome.kind,
        "reason": outcome.reason,
        "status": seen.status,
        "headers": dict(seen.headers),
        "body": seen.body,
        "word": seen.word,
        "code": seen.code,
        "message": seen.message,
        "traits": asdict(seen.traits),
        "task_id": outcome.task_id,
    }
