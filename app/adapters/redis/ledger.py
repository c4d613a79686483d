"""The `Ledger` on Redis: scripts/ledger does the arithmetic, this only carries it there."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.adapters.redis import refusals
from app.adapters.redis.auditor import Auditor
from app.adapters.redis.entries import correction_fields, entry_id, read_entry, rows
from app.adapters.redis.job_codec import (
    admission_fields,
    admitted_job,
    dedup_fields,
    read_job,
    settle_fields,
)
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.pending_images import backoff_fields, report_fields
from app.adapters.redis.scope_set import ScopeSet, given
from app.domain.charging import validate_outcome
from app.domain.errors import (
    BillingEvidence,
    IdempotencyKeyReused,
    InvalidRequest,
    LedgerDataLost,
    PriceUnknown,
    TaskCancelled,
    TaskNotFound,
)
from app.domain.job import Job, JobState, Outcome, PartResult, PollAnomalyKind, TaskStatus
from app.domain.ledger import (
    AdmissionRequest,
    AdmissionResult,
    AnswerReceipt,
    CollectionClaim,
    CollectionReport,
    CollectionResult,
    CollectionTimings,
    DedupKeys,
    Entry,
    EntryKind,
    JobClaim,
    LedgerAudit,
    OpenJobStats,
    PossibleDuplicate,
    RateLimitCheck,
    Settlement,
)
from app.domain.limits import NO_CAPS, FreeUseCaps, LimitSnapshot
from app.domain.principal import Principal

OPEN_STATES = (JobState.RESERVED, JobState.DISPATCHED, JobState.UNKNOWN)


class RedisLedger:
    """Quotas, jobs and their settlement; `app.domain.ports.Ledger` says what each method does."""

    def __init__(
        self,
        scripts: LedgerScripts,
        *,
        task_ttl_s: int,
        image_ttl_s: int,
        caps: FreeUseCaps = NO_CAPS,
    ) -> None:
        self._scripts, self._caps = scripts, caps
        self._auditor = Auditor(scripts)
        self._task_ms = task_ttl_s * 1000
        self._ttls = {"task_ms": self._task_ms, "image_ms": image_ttl_s * 1000}

    @property
    def intact(self) -> bool:
        """False from the moment the store is known to have lost data until it is rebuilt."""
        return self._scripts.intact

    async def verify(self) -> None:
        await self._scripts.verify()

    async def has_data(self) -> bool:
        return await self._scripts.has_data()

    async def ready(self) -> None:
        await self._scripts.run("check_writable")

    async def check_rate_limit(
        self, principal: Principal, dedup_keys: DedupKeys, *, rate_limit_checked: bool = False
    ) -> RateLimitCheck:
        self._scripts.ensure_can_spend()
        scope_set = ScopeSet.of(principal)
        ask = scope_set.limit_fields(principal) | {"dedup": dedup_fields(principal, dedup_keys)}
        ask |= {} if rate_limit_checked else {"rate_unchecked": True}
        match await self._scripts.write("check_rate_limit", ask, dated=True):
            case ["rate_limited", scope_index, retry_after_s]:
                raise refusals.paced(scope_set.scopes[scope_index - 1], retry_after_s)
            case ["reused", *_]:
                raise IdempotencyKeyReused
            case ["contested", calls]:
                raise PossibleDuplicate(tuple(calls))
            case [_, duplicate_of, limit_snapshot]:
                return RateLimitCheck(scope_set.snapshot(limit_snapshot), duplicate_of)
        raise AssertionError

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        scope_set = ScopeSet.of(admission.principal)
        if admission.unit_micros is None and scope_set.has_budget:
            raise PriceUnknown(refusals.unpriced(scope_set.scopes, admission.request.model))
        self._scripts.ensure_can_spend()
        ask = scope_set.limit_fields(admission.principal) | admission_fields(admission)
        ask |= given(refusals=self._caps.refusals) | {"task_ms": self._task_ms}
        reply = await self._scripts.write("admit", ask, dated=True)
        # What the journal did not take is not sent either.
        self._scripts.ensure_can_spend(asked=True)
        match reply:
            case ["opened", created_ms, limit_snapshot]:
                return AdmissionResult(
                    admitted_job(admission, created_ms), scope_set.snapshot(limit_snapshot)
                )
            case ["joined" | "known" as how, record, limit_snapshot]:
                return AdmissionResult(
                    read_job(record), scope_set.snapshot(limit_snapshot), how == "joined"
                )
            case ["contested", calls]:
                raise PossibleDuplicate(tuple(calls))
        raise refusals.of_admission(reply, admission, scope_set.scopes, self._scripts.calendar.zone)

    async def bind_idempotency_key(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str
    ) -> None:
        ask = {"job": job_id, "user": principal.user, "dedup": dedup_fields(principal, dedup_keys)}
        await self._scripts.write("bind_idempotency_key", ask | given(most=self._caps.replays))

    async def dispatch(self, job_id: str, lease_ms: int) -> bool:
        self._scripts.ensure_can_spend()
        reply = await self._scripts.write("dispatch", {"job": job_id, "lease_ms": lease_ms})
        return bool(reply[0] == "dispatched")

    async def record_part(
        self,
        job_id: str,
        part: int,
        *,
        upstream_id: str | None = None,
        request_id: str | None = None,
        result: PartResult | None = None,
        due_ms: int,
    ) -> bool:
        ask: dict[str, Any] = {"job": job_id, "part": part, "due_ms": due_ms, **self._ttls}
        ask |= given(upstream=upstream_id, request=request_id)
        if result is not None:
            ask |= {"result": orjson.dumps(result).decode(), "images": result.images}
        reply = await self._scripts.write("record_part", ask)
        if reply[0] == "missing":
            raise TaskNotFound
        return bool(reply[0] != "taken")

    async def reschedule(
        self,
        claim: JobClaim,
        *,
        due_ms: int,
        status: TaskStatus | None = None,
        progress: int | None = None,
        anomalies: Mapping[int, PollAnomalyKind | None] | None = None,
    ) -> bool:
        ask: dict[str, Any] = {"job": claim.job.id, "token": claim.token, "due_ms": due_ms}
        ask |= given(status=status, progress=progress)
        if anomalies:
            ask["doubts"] = [[part, doubt or ""] for part, doubt in anomalies.items()]
        reply = await self._scripts.write("reschedule", ask)
        return bool(reply[0] == "advanced")

    async def settle(
        self,
        job_id: str,
        outcome: Outcome,
        *,
        hold_ms: int = 0,
        recheck_ms: int | None = None,
        collect_ms: int = 0,
    ) -> Settlement:
        validate_outcome(outcome)
        waits = {"hold_ms": hold_ms, "collect_ms": collect_ms}
        waits |= {} if recheck_ms is None else {"look_ms": recheck_ms}
        reply = await self._end(job_id, outcome, **waits)
        return Settlement(read_job(reply[1]), first=reply[0] == "settled")

    async def cancel(self, job_id: str) -> Settlement | None:
        note = TaskCancelled("The task was cancelled before anything was sent.").note
        outcome = Outcome(JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=note)
        reply = await self._end(job_id, outcome, only=JobState.RESERVED.value)
        job = read_job(reply[1])
        if job.dispatched_ms is not None:
            return None
        return Settlement(job, first=reply[0] == "settled")

    async def _end(self, job_id: str, outcome: Outcome, **also: Any) -> Any:
        reply = await self._scripts.write(
            "settle", settle_fields(job_id, outcome) | self._ttls | also
        )
        if reply[0] == "missing":
            raise TaskNotFound
        if reply[0] == "unlawful":
            raise ValueError(reply[1])
        return reply

    async def claim(self, limit: int, lease_ms: int) -> Sequence[JobClaim]:
        return (await self._claim(limit=limit, lease_ms=lease_ms))[0]

    async def claim_with_polls(
        self, limit: int, lease_ms: int, polls: int
    ) -> tuple[list[JobClaim], int]:
        return await self._claim(limit=limit, lease_ms=lease_ms, polls=polls)

    async def _claim(self, **ask: int) -> tuple[list[JobClaim], int]:
        _, left, *rows = await self._scripts.write("claim", ask)
        claims = [JobClaim(read_job(row), token, late, age) for late, token, age, row in rows]
        return claims, left

    async def claim_collections(
        self, limit: int, pace: CollectionTimings
    ) -> Sequence[CollectionClaim]:
        _, now, *rows = await self._scripts.write("claim_collections", backoff_fields(limit, pace))
        return [CollectionClaim(read_job(row), tries, now) for tries, row in rows]

    async def record_collection(self, job_id: str, report: CollectionReport) -> CollectionResult:
        ask = report_fields(job_id, report) | self._ttls
        reply = await self._scripts.write("record_collection", ask)
        if reply[0] == "missing":
            raise TaskNotFound
        return CollectionResult(read_job(reply[4]), reply[1], reply[2], bool(reply[3]))

    async def job(self, job_id: str) -> Job | None:
        record = await self._scripts.run("job", job_id)
        return read_job(record) if record else None

    async def filter_open(self, job_ids: Sequence[str]) -> frozenset[str]:
        reply = await self._scripts.run("filter_open", *job_ids)
        if reply is None:
            raise LedgerDataLost
        return frozenset(reply)

    async def list_jobs(self, user: str, limit: int) -> Sequence[Job]:
        return [read_job(record) for record in await self._scripts.run("list_jobs", user, limit)]

    async def list_unfinished(self) -> Sequence[str]:
        return list(await self._scripts.run("list_unfinished"))

    async def abandon(self, job_id: str, caller_id: str | None = None) -> None:
        ask = {"job": job_id} if caller_id is None else {"job": job_id, "call": caller_id}
        await self._scripts.write("abandon", ask)

    async def save_receipts(self, receipts: Sequence[AnswerReceipt]) -> None:
        await self._scripts.write(
            "save_receipts", {"receipts": [(r.job_id, r.caller_id) for r in receipts]}
        )

    async def find_owner(self, picture: str) -> tuple[str, str] | None:
        text = await self._scripts.run("find_owner", picture)
        if text is None:
            return None
        user, pool = orjson.loads(text)
        return user, pool

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        scope_set = ScopeSet.of(principal)
        _, limit_snapshot = await self._scripts.run_dated(
            "read_limits", scope_set.limit_fields(principal)
        )
        return scope_set.snapshot(limit_snapshot)

    async def adjust(self, entry: Entry) -> Entry:
        """A non-empty `entry.id` names the request: repeated, it corrects once."""
        if entry.kind is not EntryKind.ADJUST or entry.surplus:
            raise ValueError("only corrections are entered by hand")
        reply = await self._scripts.write(
            "adjust", correction_fields(entry, self._scripts.calendar)
        )
        if reply[0] == "negative":
            raise InvalidRequest(
                "invalid_value", f"The correction would leave {reply[1]} below zero in {reply[2]}."
            )
        return replace(entry, id=reply[1], at_ms=entry_id(reply[1])[0])

    async def entries(
        self, since_ms: int = 0, until_ms: int | None = None, *, newest_first: bool = False
    ) -> AsyncIterator[Entry]:
        last = "+" if until_ms is None else str(max(until_ms - 1, 0))
        span = str(max(since_ms, 0)), last
        async for id, row in rows(self._scripts, *span, newest_first=newest_first):
            yield read_entry(id, row)

    async def audit(self) -> LedgerAudit:
        return await self._auditor.audit()

    async def open_job_stats(self) -> OpenJobStats:
        *counts, images, micros, lag_ms, collecting = await self._scripts.run("open_job_stats")
        states = dict(zip(OPEN_STATES, counts, strict=True))
        return OpenJobStats(states, images, micros, lag_ms, collecting)
