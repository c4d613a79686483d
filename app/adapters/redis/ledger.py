"""The `Ledger` on Redis: the arithmetic lives in scripts/ledger, this only carries it there."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.adapters.redis import refusals
from app.adapters.redis.audit import Auditor
from app.adapters.redis.book import Book
from app.adapters.redis.bound import Bound, given
from app.adapters.redis.ending import end_fields
from app.adapters.redis.entries import correction, entry_id, read_entry, rows
from app.adapters.redis.jobs import job_fields, opened, read_job
from app.adapters.redis.memory import Memory
from app.adapters.redis.pending import pace_fields, report_fields
from app.adapters.redis.rebuild import rebuild
from app.adapters.redis.repeats import repeated
from app.domain.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    LedgerLost,
    PriceUnknown,
    Proof,
    TaskCancelled,
    TaskNotFound,
)
from app.domain.job import DoubtKind, Job, JobState, Outcome, PartResult, TaskStatus
from app.domain.journal import Step
from app.domain.ledger import (
    Admitted,
    Arrived,
    Audit,
    Census,
    Claim,
    CollectClaim,
    Collected,
    CollectPace,
    CollectReport,
    Contested,
    Entry,
    EntryKind,
    Order,
    Receipt,
    Repeat,
    Settlement,
)
from app.domain.limits import Standing
from app.domain.principal import Principal
from app.domain.rebuild import Rebuilt, Terms
from app.domain.refusals import UNCAPPED, Caps
from app.domain.settlement import lawful


class RedisLedger:
    """Quotas, jobs and their settlement; `app.domain.ports.Ledger` says what each method does."""

    def __init__(
        self, book: Book, *, task_ttl_s: int, image_ttl_s: int, caps: Caps = UNCAPPED
    ) -> None:
        self._book, self._caps = book, caps
        self._auditor = Auditor(book)
        self._task_ms = task_ttl_s * 1000
        self._lives = {"task_ms": self._task_ms, "image_ms": image_ttl_s * 1000}

    @property
    def intact(self) -> bool:
        """False from the moment the store is known to have lost data until it is rebuilt."""
        return self._book.intact

    async def verify(self) -> None:
        """See `Book.verify`."""
        await self._book.verify()

    async def begun(self) -> bool:
        """See `Book.begun`."""
        return await self._book.begun()

    async def ready(self) -> None:
        """Raises `LedgerUnavailable` unless the store would take a write now."""
        await self._book.read("ready")

    async def arrive(self, principal: Principal, repeat: Repeat, *, paced: bool = False) -> Arrived:
        self._book.may_spend()
        bound = Bound.of(principal)
        ask = bound.ask(principal) | {"repeated": repeated(principal, repeat)}
        ask |= {} if paced else {"unpaced": True}
        match await self._book.write("arrive", ask, dated=True):
            case ["paced", line, retry_after_s]:
                raise refusals.paced(bound.scopes[line - 1], retry_after_s)
            case ["reused", *_]:
                raise IdempotencyKeyReused
            case ["contested", calls]:
                raise Contested(tuple(calls))
            case [_, joins, standing]:
                return Arrived(bound.standing(standing), joins)
        raise AssertionError

    async def admit(self, order: Order) -> Admitted:
        bound = Bound.of(order.principal)
        if order.unit_micros is None and bound.has_budget:
            raise PriceUnknown(refusals.unpriced(bound.scopes, order.request.model))
        self._book.may_spend()
        reply = await self._book.write("admit", self._ask(order, bound), dated=True)
        self._book.may_spend(asked=True)  # what the journal did not take is not sent either
        match reply:
            case ["opened", created_ms, standing]:
                return Admitted(opened(order, created_ms), bound.standing(standing))
            case ["joined" | "known" as how, record, standing]:
                return Admitted(read_job(record), bound.standing(standing), how == "joined")
            case ["contested", calls]:
                raise Contested(tuple(calls))
        raise refusals.of_admission(reply, order, bound.scopes, self._book.calendar.zone)

    async def bind(self, principal: Principal, repeat: Repeat, job_id: str) -> None:
        ask = {"job": job_id, "user": principal.user, "repeated": repeated(principal, repeat)}
        await self._book.write("bind", ask | given(most=self._caps.replays))

    async def dispatch(self, job_id: str, lease_ms: int) -> bool:
        self._book.may_spend()
        reply = await self._book.write("dispatch", {"job": job_id, "lease_ms": lease_ms})
        return bool(reply[0] == "dispatched")

    async def record(
        self,
        job_id: str,
        part: int,
        *,
        upstream_id: str | None = None,
        request_id: str | None = None,
        result: PartResult | None = None,
        due_ms: int,
    ) -> bool:
        ask: dict[str, Any] = {"job": job_id, "part": part, "due_ms": due_ms, **self._lives}
        if upstream_id is not None:
            ask["upstream"] = upstream_id
        if request_id is not None:
            ask["request"] = request_id
        if result is not None:
            ask |= {"result": orjson.dumps(result).decode(), "images": result.images}
        reply = await self._book.write("record", ask)
        if reply[0] == "missing":
            raise TaskNotFound
        return bool(reply[0] != "taken")

    async def advance(
        self,
        claim: Claim,
        *,
        due_ms: int,
        status: TaskStatus | None = None,
        progress: int | None = None,
        doubts: Mapping[int, DoubtKind | None] | None = None,
    ) -> bool:
        ask: dict[str, Any] = {"job": claim.job.id, "token": claim.token, "due_ms": due_ms}
        ask |= given(status=status, progress=progress)
        if doubts:
            ask["doubts"] = [[part, doubt or ""] for part, doubt in doubts.items()]
        reply = await self._book.write("advance", ask)
        return bool(reply[0] == "advanced")

    async def settle(
        self,
        job_id: str,
        outcome: Outcome,
        *,
        hold_ms: int = 0,
        look_ms: int | None = None,
        collect_ms: int = 0,
    ) -> Settlement:
        lawful(outcome)
        waits = {"hold_ms": hold_ms, "collect_ms": collect_ms}
        waits |= {} if look_ms is None else {"look_ms": look_ms}
        reply = await self._end(job_id, outcome, **waits)
        return Settlement(read_job(reply[1]), first=reply[0] == "settled")

    async def cancel(self, job_id: str) -> Settlement | None:
        note = TaskCancelled("The task was cancelled before anything was sent.").note
        outcome = Outcome(JobState.RELEASED, proof=Proof.NEVER_SENT, failure=note)
        reply = await self._end(job_id, outcome, only=JobState.RESERVED.value)
        job = read_job(reply[1])
        if job.dispatched_ms is not None:
            return None
        return Settlement(job, first=reply[0] == "settled")

    async def _end(self, job_id: str, outcome: Outcome, **also: Any) -> Any:
        reply = await self._book.write("settle", end_fields(job_id, outcome) | self._lives | also)
        if reply[0] == "missing":
            raise TaskNotFound
        if reply[0] == "unlawful":
            raise ValueError(reply[1])
        return reply

    async def claim(self, limit: int, lease_ms: int) -> Sequence[Claim]:
        return (await self._claim(limit=limit, lease_ms=lease_ms))[0]

    async def claim_within(self, limit: int, lease_ms: int, polls: int) -> tuple[list[Claim], int]:
        return await self._claim(limit=limit, lease_ms=lease_ms, polls=polls)

    async def _claim(self, **ask: int) -> tuple[list[Claim], int]:
        _, left, *rows = await self._book.write("claim", ask)
        claims = [Claim(read_job(row), token, late, age) for late, token, age, row in rows]
        return claims, left

    async def claim_pending(self, limit: int, pace: CollectPace) -> Sequence[CollectClaim]:
        _, now, *rows = await self._book.write("claim_pending", pace_fields(limit, pace))
        return [CollectClaim(read_job(row), tries, now) for tries, row in rows]

    async def collected(self, job_id: str, report: CollectReport) -> Collected:
        reply = await self._book.write("collected", report_fields(job_id, report) | self._lives)
        if reply[0] == "missing":
            raise TaskNotFound
        return Collected(read_job(reply[4]), reply[1], reply[2], bool(reply[3]))

    async def job(self, job_id: str) -> Job | None:
        record = await self._book.read("job", job_id)
        return read_job(record) if record else None

    async def active(self, job_ids: Sequence[str]) -> frozenset[str]:
        reply = await self._book.read("active", *job_ids)
        if reply is None:
            raise LedgerLost
        return frozenset(reply)

    async def jobs_of(self, user: str, limit: int) -> Sequence[Job]:
        return [read_job(record) for record in await self._book.read("jobs", user, limit)]

    async def unended(self) -> Sequence[str]:
        return list(await self._book.read("unended"))

    async def abandon(self, job_id: str, call: str | None = None) -> None:
        ask = {"job": job_id} if call is None else {"job": job_id, "call": call}
        await self._book.write("abandon", ask)

    async def received(self, receipts: Sequence[Receipt]) -> None:
        await self._book.write("received", {"receipts": [(r.job_id, r.call) for r in receipts]})

    async def owner_of(self, picture: str) -> tuple[str, str] | None:
        text = await self._book.read("owner", picture)
        if text is None:
            return None
        user, pool = orjson.loads(text)
        return user, pool

    async def standing(self, principal: Principal) -> Standing:
        bound = Bound.of(principal)
        _, standing = await self._book.read_dated("standing", bound.ask(principal))
        return bound.standing(standing)

    async def adjust(self, entry: Entry) -> Entry:
        """See the port. A non-empty `entry.id` names the request: repeated, it corrects once.

        Raises `InvalidRequest` when a counter would fall below zero.
        """
        if entry.kind is not EntryKind.ADJUST or entry.surplus:
            raise ValueError("only corrections are entered by hand")
        reply = await self._book.write("adjust", correction(entry, self._book.calendar))
        if reply[0] == "negative":
            raise InvalidRequest(
                "invalid_value", f"The correction would leave {reply[1]} below zero in {reply[2]}."
            )
        return replace(entry, id=reply[1], at_ms=entry_id(reply[1])[0])

    async def entries(
        self, since_ms: int = 0, until_ms: int | None = None, *, newest_first: bool = False
    ) -> AsyncIterator[Entry]:
        """Entries written at or after `since_ms` and before `until_ms`, in order."""
        last = "+" if until_ms is None else str(max(until_ms - 1, 0))
        span = str(max(since_ms, 0)), last
        async for id, row in rows(self._book, *span, newest_first=newest_first):
            yield read_entry(id, row)

    async def audit(self) -> Audit:
        return await self._auditor.audit()

    async def census(self) -> Census:
        *counts, images, micros, lag_ms, collecting = await self._book.read("census")
        states = (JobState.RESERVED, JobState.DISPATCHED, JobState.UNKNOWN)
        return Census(dict(zip(states, counts, strict=True)), images, micros, lag_ms, collecting)

    async def rebuild(
        self, steps: Iterable[Step], terms: Terms, given: Collection[str] = ()
    ) -> Rebuilt:
        """Put the books together again from the journals that are `given` by name.

        Raises `RebuildRefused`, `LedgerUnavailable`.
        """
        return await rebuild(self._book, Memory.of(steps), terms, given)

    def _ask(self, order: Order, bound: Bound) -> dict[str, Any]:
        ask = bound.ask(order.principal) | ({} if order.arrived else {"unpaced": True})
        ask |= {
            "job": order.job_id,
            "user": order.principal.user,
            "repeated": repeated(order.principal, order.repeat),
            "images": order.request.n,
        }
        ask |= {"lease_ms": order.lease_ms, "task_ms": self._task_ms, "fields": job_fields(order)}
        return ask | given(unit=order.unit_micros, refusals=self._caps.refusals)
