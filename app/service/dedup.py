"""Recognising a request that repeats an earlier one, so that it is not bought again (decision 21).

The ledger says which job a request repeats, the other processes whether earlier callers are still
there, and this process remembers which requests it refused: the retry of a refusal is a new wish.
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
"""Each round learns of calls that opened meanwhile."""
REFUSAL_TTL_S = 60.0
"""Clients wait no longer than the longest `Retry-After` before they retry a refusal."""
MAX_REFUSALS = 4096
MAX_REFUSALS_PER_ATTEMPT = 64


class CallerDisconnected(Exception):
    """The caller hung up before anything was opened for it: nothing is spent."""


@dataclass(slots=True)
class RecentRefusals:
    """Refusals told lately that asked for a retry, by attempt, each until it is forgotten."""

    _expiries: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def note(self, attempt: str) -> None:
        """A refusal that asks for a retry was told."""
        until = self._expiries.setdefault(attempt, deque(maxlen=MAX_REFUSALS_PER_ATTEMPT))
        until.append(time.monotonic() + REFUSAL_TTL_S)
        self._expiries.move_to_end(attempt)
        if len(self._expiries) > MAX_REFUSALS:
            self._expiries.popitem(last=False)

    def take(self, attempt: str) -> bool:
        """Whether a retry was to be expected that has nothing to join; from now on, one less."""
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
    """Asks the ledger on behalf of calls, each under the id of the job it would open."""

    ledger: Ledger
    callers: CallerRegistry
    refusals: RecentRefusals = field(default_factory=RecentRefusals)

    def register(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str, present: Callable[[], bool]
    ) -> WaitingCaller:
        """A new call, which `callers` keeps until it is over."""
        attempt = f"{principal.key_id} {dedup_keys.body}"
        refused_before = dedup_keys.is_sdk_retry and self.refusals.take(attempt)
        if refused_before:
            # What was refused left nothing to join; a job whose caller left is joined all the same.
            dedup_keys = replace(dedup_keys, is_sdk_retry=False, fresh=True)
        dedup_keys = replace(dedup_keys, caller_id=job_id, callers={})
        call = WaitingCaller(job_id, attempt, dedup_keys, present, job_id, refused_before)
        self.callers.register(call)
        return call

    def close_refused(self, call: WaitingCaller, error: BaseException) -> None:
        """The call ended before it had a job; its retry may be a new wish."""
        if isinstance(error, AdmissionRefused | GatewayOverloaded) and error.note.retryable:
            self.refusals.note(call.attempt)
        self.callers.deregister(call)

    async def check_rate_limit(self, principal: Principal, call: WaitingCaller) -> RateLimitCheck:
        """`Ledger.check_rate_limit`, once it is known who is still there. Raises
        `CallerDisconnected` too."""

        async def ask(dedup_keys: DedupKeys, again: bool) -> RateLimitCheck:
            return await self.ledger.check_rate_limit(
                principal, dedup_keys, rate_limit_checked=again
            )

        rate_limit_checked = await self._with_presence(call, ask)
        if rate_limit_checked.duplicate_of is not None:
            self._joined(call)
        return rate_limit_checked

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        """`Ledger.admit`, once it is known who is still there. Raises `CallerDisconnected` too."""
        call = self.callers.find(admission.job_id)
        if call is None:
            return await self.ledger.admit(admission)

        async def ask(dedup_keys: DedupKeys, again: bool) -> AdmissionResult:
            rate_limit_checked = admission.rate_limit_checked or again
            return await self.ledger.admit(
                replace(admission, dedup_keys=dedup_keys, rate_limit_checked=rate_limit_checked)
            )

        admitted = await self._with_presence(call, ask)
        if admitted.joined:
            self._joined(call)
        return admitted

    def _joined(self, call: WaitingCaller) -> None:
        if call.refused_before:
            # It was another's retry: the one that was refused is still to come.
            call.refused_before = False
            self.refusals.note(call.attempt)

    async def _with_presence(
        self, call: WaitingCaller, ask: Callable[[DedupKeys, bool], Awaitable[T]]
    ) -> T:
        known: dict[str, CallerPresence] = {}
        for round_ in range(MAX_ROUNDS):
            try:
                return await ask(replace(call.dedup_keys, callers=known), round_ > 0)
            except PossibleDuplicate as contested:
                # Its own repeat may have overtaken it.
                if not await call.is_still_there():
                    raise CallerDisconnected from None
                known |= await self.callers.ask(contested.calls)
        return await ask(replace(call.dedup_keys, callers=None), True)

    async def abandon(self, call: WaitingCaller) -> None:
        """The caller left before its answer; its next identical request joins the job."""
        try:
            await self.ledger.abandon(call.job_id, call.id)
        except LedgerUnavailable:
            pass
        finally:
            self.callers.deregister(call)

    def received(self, call: WaitingCaller) -> None:
        """The whole answer went out and the caller is there to read it."""
        if call.cache_variant is None:
            self.callers.mark_served(call)
        else:
            self.callers.deregister(call)
