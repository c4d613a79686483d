"""The `Ledger` on Redis: scripts/ledger does the work, this asks the scripts and reads replies."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.adapters.redis import job_lists, keyspace, refusals
from app.adapters.redis.auditor import Auditor
from app.adapters.redis.client.scripts import FIND_ANY, FIND_OWNER, READ_JOB
from app.adapters.redis.codec import entry_id, read_entry, read_job, to_json, unflatten
from app.adapters.redis.job_claims import JobClaims
from app.adapters.redis.ledger_condition import LedgerCondition
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import Fields, ScriptError
from app.adapters.redis.scope_set import ScopeSet
from app.adapters.redis.script_requests import (
    Request,
    admission_request,
    admitted_job,
    admitted_values,
    audit_fields,
    backoff_request,
    collection_request,
    correction_request,
    dedup_request,
    given,
    repeat_keys,
    settle_request,
)
from app.domain.administration import AuditNote
from app.domain.attribution import MAX_COUNTED
from app.domain.charging import validate_outcome
from app.domain.errors import BillingEvidence, PriceUnknown, TaskCancelled
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
    PollRooms,
    RateLimitCheck,
    Settlement,
)
from app.domain.limits import NO_CAPS, FreeUseCaps, LimitSnapshot
from app.domain.principal import LEFT, Principal


class RedisLedger:
    """Quotas, jobs and their settlement; `app.domain.ports.Ledger` says what each method does."""

    def __init__(
        self,
        scripts: LedgerScripts,
        *,
        task_ttl_s: int,
        image_ttl_s: int,
        caps: FreeUseCaps = NO_CAPS,
        attributed: int = MAX_COUNTED,
    ) -> None:
        self._scripts, self._caps, self._attributed = scripts, caps, attributed
        self._auditor, self._claims = Auditor(scripts), JobClaims(scripts)
        self._ttls = {"task_ms": task_ttl_s * 1000, "image_ms": image_ttl_s * 1000}

    @property
    def condition(self) -> LedgerCondition:
        return self._scripts.condition

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
        dedup = dedup_request(principal, dedup_keys)
        request = scope_set.limit_fields(principal) | {"dedup": dedup}
        request |= {} if rate_limit_checked else {"rate_unchecked": True}
        _, fields = await self._write("check_rate_limit", request, scope_set, dated=True)
        return RateLimitCheck(scope_set.snapshot(fields["limits"]), fields.get("duplicate_of"))

    async def may_repeat(self, principal: Principal, dedup_keys: DedupKeys) -> bool:
        return bool(await self._scripts.command(FIND_ANY, *repeat_keys(principal, dedup_keys)))

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        scope_set = ScopeSet.of(admission.principal)
        if admission.unit_micros is None and scope_set.has_budget:
            raise PriceUnknown(refusals.unpriced(scope_set.scopes, admission.request.model))
        self._scripts.ensure_can_spend()
        values = admitted_values(admission)
        request = admission_request(admission, values, self._attributed)
        request |= scope_set.limit_fields(admission.principal) | {"task_ms": self._ttls["task_ms"]}
        request |= given(refusals=self._caps.refusals)
        try:
            sent = request["fields"]
            status, fields = await self._scripts.write("admit", request, dated=True, sent=sent)
        except ScriptError as error:
            self._scripts.ensure_can_spend(asked=True)
            raise self._explain(error, scope_set, admission) from error
        # A job that the journal did not take is not sent either.
        self._scripts.ensure_can_spend(asked=True)
        limit_snapshot = scope_set.snapshot(fields["limits"])
        if status == "opened":
            job = admitted_job(admission, values, fields["created_ms"])
            return AdmissionResult(job, limit_snapshot)
        return AdmissionResult(_job(fields), limit_snapshot, status == "joined")

    async def bind_idempotency_key(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str
    ) -> None:
        dedup = dedup_request(principal, dedup_keys)
        request = {"job": job_id, "user": principal.user, "dedup": dedup}
        await self._write("bind_idempotency_key", request | given(most=self._caps.replays))

    async def dispatch(self, job_id: str, lease_ms: int) -> bool:
        self._scripts.ensure_can_spend()
        status, _ = await self._write("dispatch", {"job": job_id, "lease_ms": lease_ms})
        return status == "dispatched"

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
        request: Request = {"job": job_id, "part": part, "due_ms": due_ms, **self._ttls}
        request |= given(upstream=upstream_id, request=request_id)
        if result is not None:
            request |= {"result": to_json(result), "images": result.images}
        status, _ = await self._write("record_part", request)
        return status != "taken"

    async def reschedule(
        self,
        claim: JobClaim,
        *,
        due_ms: int,
        status: TaskStatus | None = None,
        progress: int | None = None,
        anomalies: Mapping[int, PollAnomalyKind | None] | None = None,
    ) -> bool:
        request: Request = {"job": claim.job.id, "token": claim.token, "due_ms": due_ms}
        request |= given(status=status, progress=progress)
        if anomalies:
            request["doubts"] = [[part, kind or ""] for part, kind in anomalies.items()]
        return await self._claims.give_back(claim, request)

    async def settle(
        self,
        job_id: str,
        outcome: Outcome,
        *,
        hold_ms: int = 0,
        recheck_ms: int | None = None,
        collect_ms: int = 0,
        known: Job | None = None,
    ) -> Settlement:
        validate_outcome(outcome)
        brief = known is not None and len(known.parts) == 1 and not outcome.pending
        waits = given(hold_ms=hold_ms, collect_ms=collect_ms, look_ms=recheck_ms, brief=brief)
        status, fields = await self._settle(job_id, outcome, **waits)
        if known is None or "record" in fields:
            return Settlement(_job(fields), first=status == "settled")
        return Settlement(known.after(outcome, **fields), first=True)

    async def cancel(self, job_id: str, by: AuditNote | None = None) -> Settlement | None:
        note = TaskCancelled("The task was cancelled before anything was sent.").note
        outcome = Outcome(JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=note)
        also = given(only=JobState.RESERVED.value, audit=by and audit_fields(by))
        status, fields = await self._settle(job_id, outcome, **also)
        job, first = _job(fields), status == "settled"
        return Settlement(job, first) if job.dispatched_ms is None else None

    async def _settle(self, job_id: str, outcome: Outcome, **also: Any) -> tuple[str, Fields]:
        return await self._write("settle", settle_request(job_id, outcome) | self._ttls | also)

    async def claim(self, limit: int, lease_ms: int) -> Sequence[JobClaim]:
        return (await self._claims.claim(limit, lease_ms))[0]

    async def claim_with_polls(
        self, limit: int, lease_ms: int, polls: PollRooms
    ) -> tuple[list[JobClaim], Mapping[str | None, int]]:
        return await self._claims.claim(limit, lease_ms, polls)

    async def claim_collections(
        self, limit: int, timings: CollectionTimings
    ) -> Sequence[CollectionClaim]:
        _, fields = await self._write("claim_collections", backoff_request(limit, timings))
        now_ms = fields["now_ms"]
        return [CollectionClaim(_job(c), c["tries"], now_ms) for c in fields["claims"]]

    async def record_collection(self, job_id: str, report: CollectionReport) -> CollectionResult:
        request = collection_request(job_id, report) | self._ttls
        _, fields = await self._write("record_collection", request)
        ended = bool(fields["ended"])
        return CollectionResult(_job(fields), fields["pictures"], fields["lost"], ended)

    async def job(self, job_id: str) -> Job | None:
        record = await self._scripts.command(READ_JOB, keyspace.key("job", job_id))
        return read_job(record) if record else None

    async def filter_open(self, job_ids: Sequence[str]) -> frozenset[str]:
        return frozenset((await self._scripts.run("filter_open", *job_ids))["jobs"])

    async def list_jobs(self, user: str, limit: int) -> Sequence[Job]:
        return await job_lists.list_jobs(self._scripts, user, limit)

    async def list_unfinished(self) -> Sequence[str]:
        return await job_lists.list_unfinished(self._scripts)

    async def abandon(self, job_id: str, caller_id: str | None = None) -> None:
        await self._write("abandon", {"job": job_id} | given(call=caller_id))

    async def save_receipts(self, receipts: Sequence[AnswerReceipt]) -> None:
        rows = [(receipt.job_id, receipt.caller_id) for receipt in receipts]
        await self._write("save_receipts", {"receipts": rows})

    async def find_owner(self, picture: str) -> tuple[str, str] | None:
        text = await self._scripts.command(FIND_OWNER, keyspace.key("owner", picture))
        user, pool = orjson.loads(text) if text is not None else ("", "")
        return (user, pool) if user else None

    async def delete_picture(self, picture: str, user: str, job_id: str) -> bool | None:
        asked = given(picture=picture, user=user, job=job_id, left=LEFT)
        status, fields = await self._write("delete_picture", asked)
        return bool(fields["shared"]) if status == "deleted" else None

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        scope_set = ScopeSet.of(principal)
        fields = await self._scripts.run_dated("read_limits", scope_set.limit_fields(principal))
        return scope_set.snapshot(fields["limits"], unlimited=True)

    async def adjust(self, entry: Entry, note: AuditNote | None = None) -> Entry:
        """A non-empty `entry.id` names the request: repeated, it corrects once."""
        if entry.kind is not EntryKind.ADJUST or entry.surplus:
            raise ValueError("only corrections are entered by hand")
        request = correction_request(entry, self._scripts.calendar, note)
        _, fields = await self._write("adjust", request)
        if "before" in fields:
            return read_entry(fields["entry"], unflatten(fields["before"]))
        return replace(entry, id=fields["entry"], at_ms=entry_id(fields["entry"])[0])

    async def entries(
        self, since_ms: int = 0, until_ms: int | None = None, *, newest_first: bool = False
    ) -> AsyncIterator[Entry]:
        last = "+" if until_ms is None else str(max(until_ms - 1, 0))
        span = str(max(since_ms, 0)), last
        async for id, record in self._scripts.entries(*span, newest_first=newest_first):
            yield read_entry(id, record)

    async def audit(self, *, full: bool = False, files: bool = True) -> LedgerAudit:
        return await self._auditor.audit(full=full, files=files)

    async def full_audit_due(self) -> bool:
        return await self._auditor.full_audit_due()

    async def open_job_stats(self) -> OpenJobStats:
        return await job_lists.open_job_stats(self._scripts)

    async def _write(
        self, name: str, request: Request, scope_set: ScopeSet | None = None, *, dated: bool = False
    ) -> tuple[str, Fields]:
        try:
            return await self._scripts.write(name, request, dated=dated)
        except ScriptError as error:
            raise self._explain(error, scope_set) from error

    def _explain(
        self,
        error: ScriptError,
        scope_set: ScopeSet | None,
        admission: AdmissionRequest | None = None,
    ) -> Exception:
        scopes = () if scope_set is None else scope_set.scopes
        return refusals.explain(error, scopes, admission, self._scripts.calendar.zone)


def _job(fields: Fields) -> Job:
    return read_job(unflatten(fields["record"]))
