"""Recognising a request that repeats an earlier one, so that it is paid for once (decision 21).

The ledger says which job a request repeats, and the other processes whether earlier callers are
still there. This process remembers which requests it refused, because the retry of a refusal has
no job to join and is a new request.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.domain.errors import AdmissionRefused, GatewayOverloaded, LedgerUnavailable
from app.domain.ledger import (
    AdmissionRequest,
    AdmissionResult,
    CallerPresence,
    DedupKeys,
    PossibleDuplicate,
    RateLimitCheck,
)
from app.domain.ports import Ledger
from app.domain.principal import Principal
from app.service.callers import CallerRegistry, WaitingCaller

T = TypeVar("T")

MAX_ROUNDS = 8
"""How often the ledger is asked about callers: each round may meet some that came meanwhile."""
REFUSAL_TTL_S = 60.0
"""The longest `Retry-After`: no client waits longer before it retries a refusal."""
MAX_REFUSALS = 4096
MAX_REFUSALS_PER_ATTEMPT = 64


class CallerDisconnected(Exception):
    """The caller hung up before a job was opened for it: nothing is spent."""


@dataclass(slots=True)
class RecentRefusals:
    """Recent refusals that asked for a retry, by attempt."""

    _expiries: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def note(self, attempt: str) -> None:
        """A caller was told a refusal that asks for a retry."""
        until = self._expiries.setdefault(attempt, deque(maxlen=MAX_REFUSALS_PER_ATTEMPT))
        until.append(time.monotonic() + REFUSAL_TTL_S)
        self._expiries.move_to_end(attempt)
        if len(self._expiries) > MAX_REFUSALS:
            self._expiries.popitem(last=False)

    def take(self, attempt: str) -> bool:
        """Whether the retry of a refusal was expected. It is counted: the next call expects one
        fewer."""
        until = self._expiries.get(attempt)
        if until is None:
            return False
        now = time.monotonic()
        while until and until[0] <= now:
            until.popleft()
        found = bool(until)
        if found:
            until.popleft()
        if not until:
            del self._expiries[attempt]
        return found


@dataclass(frozen=True, slots=True)
class Deduplicator:
    """Asks the ledger on behalf of callers, each named by the id of the job it would open."""

    ledger: Ledger
    callers: CallerRegistry
    refusals: RecentRefusals = field(default_factory=RecentRefusals)

    def register(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str, present: Callable[[], bool]
    ) -> WaitingCaller:
        """A new caller, which `callers` keeps until its request is over."""
        attempt = f"{principal.key_id} {dedup_keys.body}"
        refused_before = dedup_keys.is_sdk_retry and self.refusals.take(attempt)
        # A refused request left no job to join. A job whose caller left is joined as usual.
        dedup_keys = DedupKeys(
            dedup_keys.body,
            dedup_keys.idempotency_key,
            is_sdk_retry=dedup_keys.is_sdk_retry and not refused_before,
            fresh=dedup_keys.fresh or refused_before,
            caller_id=job_id,
            callers={},
        )
        caller = WaitingCaller(job_id, attempt, dedup_keys, present, job_id, refused_before)
        self.callers.register(caller)
        return caller

    def close_refused(self, caller: WaitingCaller, error: BaseException) -> None:
        """The request ended before it had a job; its retry may be a new request."""
        if isinstance(error, AdmissionRefused | GatewayOverloaded) and error.note.retryable:
            self.refusals.note(caller.attempt)
        self.callers.deregister(caller)

    async def check_rate_limit(self, principal: Principal, caller: WaitingCaller) -> RateLimitCheck:
        """`Ledger.check_rate_limit`, which is told which earlier callers are still there. Raises
        `CallerDisconnected` too."""

        async def ask(dedup_keys: DedupKeys, again: bool) -> RateLimitCheck:
            return await self.ledger.check_rate_limit(
                principal, dedup_keys, rate_limit_checked=again
            )

        rate_limit_checked = await self._with_presence(caller, ask)
        if rate_limit_checked.duplicate_of is not None:
            self._joined(caller)
        return rate_limit_checked

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        """`Ledger.admit`, which is told which earlier callers are still there. Raises
        `CallerDisconnected` too."""
        caller = self.callers.find(admission.job_id)
        if caller is None:
            return await self.ledger.admit(admission)

        async def ask(dedup_keys: DedupKeys, again: bool) -> AdmissionResult:
            if not again:
                # The keys are the caller's own: nothing was learnt yet.
                return await self.ledger.admit(admission)
            return await self.ledger.admit(
                replace(admission, dedup_keys=dedup_keys, rate_limit_checked=True)
            )

        admitted = await self._with_presence(caller, ask)
        if admitted.joined:
            self._joined(caller)
        return admitted

    def _joined(self, caller: WaitingCaller) -> None:
        if caller.refused_before:
            # This was the retry of another request: the retry of the refused one is still to come.
            caller.refused_before = False
            self.refusals.note(caller.attempt)

    async def _with_presence(
        self, caller: WaitingCaller, ask: Callable[[DedupKeys, bool], Awaitable[T]]
    ) -> T:
        known: dict[str, CallerPresence] = {}
        asked = caller.dedup_keys
        for round_ in range(MAX_ROUNDS):
            try:
                return await ask(asked, round_ > 0)
            except PossibleDuplicate as contested:
                # The caller may have hung up and repeated the request, and the repeat came first.
                if not await caller.is_still_there():
                    raise CallerDisconnected from None
                known |= await self.callers.ask(contested.calls)
                asked = replace(caller.dedup_keys, callers=known)
        return await ask(replace(caller.dedup_keys, callers=None), True)

    async def abandon(self, caller: WaitingCaller) -> None:
        """The caller left before its answer; its next identical request joins the job."""
        try:
            await self.ledger.abandon(caller.job_id, caller.id)
        except LedgerUnavailable:
            pass
        finally:
            self.callers.deregister(caller)

    def received(self, caller: WaitingCaller) -> None:
        """The whole answer was sent while the caller was connected."""
        if caller.cache_variant is None:
            self.callers.mark_served(caller)
        else:
            self.callers.deregister(caller)
