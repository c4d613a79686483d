"""Claiming due jobs within the rates of their providers."""

import random
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

PollableParts = list[tuple[JobClaim, list[int]]]
"""Claimed jobs, and the parts of each that the provider can be asked about."""
SharedPolls = list[tuple[JobClaim, list[int] | None]]
"""Claimed jobs, and the parts of each that may be polled now; None where none can be."""


@dataclass(frozen=True, slots=True)
class DueJobs:
    ledger: Ledger
    upstreams: Upstreams
    recorder: MetricsRecorder

    async def claim(self, room: int) -> SharedPolls:
        """Due jobs, and which of its parts each may poll.

        Where a provider's rate is limited, room for its polls is asked for first. A job that finds
        no room stays due, in order of age, while jobs that need no poll, and those of other
        providers, are not held up. Raises `LedgerUnavailable`.
        """
        limited = self.upstreams.rate_limited
        if limited:
            return await self._claim_within(limited, room)
        self.recorder.polls_waiting(0)
        due = _pollable(await self.ledger.claim(room, LEASE_MS))
        granted = {
            name: (await self.upstreams.of(name).limiter.acquire_polls(polls)).count
            for name, polls in _count_polls(due).items()
        }
        return _shared(due, granted)

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
        parts = _pollable(claims)
        for name, polls in _count_polls(parts).items():
            if name not in limiters:
                granted[name] = (await self.upstreams.of(name).limiter.acquire_polls(polls)).count
        shared = _shared(parts, granted)
        used = _count_polls(shared)
        for name, grant in grants.items():
            await limiters[name].refund_polls(grant, grant.count - used[name])
        return shared


def _pollable(claims: Iterable[JobClaim]) -> PollableParts:
    return [(claim, _list_pollable(claim.job)) for claim in claims]


def _list_pollable(job: Job) -> list[int]:
    """The parts that the provider can still be asked about."""
    return [
        index
        for index, part in enumerate(job.parts)
        if part.upstream_id is not None and part.result is None
    ]


def _count_polls(due: Sequence[tuple[JobClaim, list[int] | None]]) -> Counter[str | None]:
    """The polls of these parts, by provider."""
    polls: Counter[str | None] = Counter()
    for claim, parts in due:
        if parts:
            polls[claim.job.provider] += len(parts)
    return polls


def _shared(due: PollableParts, granted: Mapping[str | None, int]) -> SharedPolls:
    """Share the polls among the claimed jobs in their order, until none are left."""
    left, shared = dict(granted), SharedPolls()
    for claim, parts in due:
        if not parts:
            shared.append((claim, None))
            continue
        name = claim.job.provider
        room = left.get(name, 0)
        # Where not all may be polled, choose at random: one that never ends must not hide others.
        chosen = parts if len(parts) <= room else random.sample(parts, room)
        left[name] = room - len(chosen)
        shared.append((claim, chosen))
    return shared
