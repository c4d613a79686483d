"""The providers of this deployment: which one has a job, with its limits and its timings."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.images import GenerationRequest
from app.domain.ports import ImageProvider
from app.domain.upstream import (
    PollGrant,
    PollInconclusive,
    SlotHolder,
    UpstreamAnswer,
    UpstreamLimiter,
)
from app.service.timings import JobTimings


@dataclass(frozen=True, slots=True)
class Upstream:
    """One provider with what keeps its limits. `name` is None for the main one of the settings."""

    name: str | None
    provider: ImageProvider
    limiter: UpstreamLimiter
    timings: JobTimings


class Upstreams:
    """`on_absent` is told the name of a provider that has a job and is not configured here."""

    def __init__(
        self,
        main: Upstream,
        further: Sequence[Upstream] = (),
        on_absent: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.main = main
        self._by_name: Mapping[str | None, Upstream] = {one.name: one for one in (main, *further)}
        self._on_absent = on_absent
        self.absent: dict[str, float] = {}
        """Providers that were asked for and are not configured here -> when they were asked for
        last (this process's monotonic clock)."""

    def __iter__(self) -> Iterator[Upstream]:
        """Those that are configured, the main one first."""
        return iter(self._by_name.values())

    def of(self, name: str | None) -> Upstream:
        """The provider of this name, never another one: one that is not configured here answers no
        poll, so that its jobs wait."""
        found = self._by_name.get(name)
        return self._absent_upstream(name) if found is None else found

    def limiter_of(self, name: str | None) -> UpstreamLimiter:
        return self.of(name).limiter

    @property
    def rate_limited(self) -> list[str | None]:
        """Those whose rate is limited now, so that polls need room."""
        return [name for name, one in self._by_name.items() if one.limiter.has_rate_limit]

    def _absent_upstream(self, name: str | None) -> Upstream:
        word = str(name)

        def note() -> None:
            self.absent[word] = time.monotonic()
            self._on_absent(word)

        return Upstream(name, AbsentProvider(word, note), Unlimited(), self.main.timings)


@dataclass(frozen=True, slots=True)
class AbsentProvider:
    """A provider that has tasks and is not configured here. Nothing is known of these tasks, and no
    other provider is asked for them."""

    name: str
    note: Callable[[], None]

    async def dispatch(self, request: GenerationRequest, *, asynchronous: bool) -> UpstreamAnswer:  # noqa: ARG002
        self.note()
        raise UpstreamError(
            "upstream_unreachable",
            "The provider of this model is not configured here; nothing was sent.",
            proof=BillingEvidence.NEVER_SENT,
        )

    async def poll(self, upstream_id: str) -> UpstreamAnswer:  # noqa: ARG002
        self.note()
        raise PollInconclusive(f"the provider {self.name} is not configured here")


class Unlimited:
    """The limits of a provider that is not asked anything."""

    has_rate_limit = False

    def check_queue(self, calls: int) -> None:
        """No job of it is opened here."""

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:  # noqa: ARG002
        return (0.0,) * calls

    async def release(self, job_id: str) -> None:
        """Its slots lapse with their lease."""

    async def release_all(self, job_id: str, calls: int) -> None:
        """Its slots lapse with their lease."""

    async def list_holders(self) -> Sequence[SlotHolder]:
        return ()

    async def acquire_polls(self, wanted: int) -> PollGrant:
        return PollGrant(wanted)

    async def refund_polls(self, grant: PollGrant, polls: int) -> None:
        """Nothing was counted."""

    async def record_success(self, took_s: float) -> None:
        """Nothing was sent."""

    async def record_failure(self, code: str, retry_after_s: float | None = None) -> None:
        """Nothing was sent."""
