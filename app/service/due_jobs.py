"""Claiming due jobs within the rates of their providers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.ledger import JobClaim
from app.domain.ports import Ledger, MetricsRecorder
from app.service.lease import LEASE_MS
from app.service.upstreams import Upstreams

SharedPolls = list[tuple[JobClaim, int]]
"""Claimed jobs, and how many of its parts each may poll."""


@dataclass(frozen=True, slots=True)
class DueJobs:
    ledger: Ledger
    upstreams: Upstreams
    recorder: MetricsRecorder

    async def claim(self, room: int) -> SharedPolls:
        """Due jobs, and how many of its parts each may poll.

        Where a provider's rate is limited, room for its polls is asked for first. A job that finds
        no room stays due, in order of age, while jobs that need no poll, and those of other
        providers, are not held up. Raises `LedgerUnavailable`.
        """
        limited = self.upstreams.rate_limited
        if limited:
            return await self._claim_within(limited, room)
        self.recorder.polls_waiting(0)
        claims = await self.ledger.claim(room, LEASE_MS)
        granted = {
            name: (await self.upstreams.of(name).limiter.acquire_polls(due)).count
            for name, due in _count_polls(claims).items()
        }
        return _shared(claims, granted)

    async def _claim_within(self, limited: Sequence[str | None], room: int) -> SharedPolls:
        limiters = {name: self.upstreams.of(name).limiter for name in limited}
        none_left: dict[str | None, int] = dict.fromkeys(limited, 0)
        claims, due = await self.ledger.claim_with_polls(room, LEASE_MS, none_left)
        grants = {
            name: await limiters[name].acquire_polls(min(polls, room))
            for name, polls in due.items()
            if polls
        }
        granted = none_left | {name: grant.count for name, grant in grants.items()}
        self.recorder.polls_waiting(sum(due.values()) - sum(granted.values()))
        if any(granted.values()) and len(claims) < room:
            with suppress(LedgerUnavailable):
                more, _ = await self.ledger.claim_with_polls(room - len(claims), LEASE_MS, granted)
                claims += more
        for name, polls in _count_polls(claims).items():
            if name not in limiters:
                granted[name] = (await self.upstreams.of(name).limiter.acquire_polls(polls)).count
        shared = _shared(claims, granted)
        used: Counter[str | None] = Counter()
        for claim, polls in shared:
            used[claim.job.provider] += polls
        for name, grant in grants.items():
            await limiters[name].refund_polls(grant, grant.count - used[name])
        return shared


def list_pollable(job: Job) -> list[int]:
    """The parts that the provider can still be asked about."""
    return [
        index
        for index, part in enumerate(job.parts)
        if part.upstream_id is not None and part.result is None
    ]


def _count_polls(claims: Iterable[JobClaim]) -> Mapping[str | None, int]:
    """The polls that these jobs need, by provider."""
    due: Counter[str | None] = Counter()
    for claim in claims:
        if parts := list_pollable(claim.job):
            due[claim.job.provider] += len(parts)
    return due


def _shared(claims: Sequence[JobClaim], granted: Mapping[str | None, int]) -> SharedPolls:
    """Share the polls among the claimed jobs in their order, until none are left."""
    left, shared = dict(granted), []
    for claim in claims:
        name = claim.job.provider
        some = min(len(list_pollable(claim.job)), left.get(name, 0))
        shared.append((claim, some))
        left[name] = left.get(name, 0) - some
    return shared
