"""Due jobs, claimed and given back in batches: thousands of tasks are polled every few seconds."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.adapters.redis.codec import read_job, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.script_requests import Request, given
from app.domain.copies import copy_with
from app.domain.errors import LedgerUnavailable
from app.domain.job import Job, TaskStatus
from app.domain.ledger import JobClaim, PollRooms

MAX_PASSED = 2000
"""How many due jobs without room for their polls are passed over to find others."""
BATCH_S = 0.005
"""How long a job that is given back waits for others, so that one script takes all of them."""
MAX_BATCH = 64
REMEMBERED_S = 60.0
"""For so long at least a polled job is remembered, and for at most twice as long."""
MAIN = ""
"""How the scripts call the main provider."""

NOTHING: tuple[str, Job | None] = "", None


@dataclass(frozen=True, slots=True)
class ReadClaim(JobClaim):
    """A claim with the record that its job was read from, but for what polls change."""

    record: str


class JobClaims:
    """A job is remembered from one poll to the next: a record that nothing has changed meanwhile is
    not read again, which costs more than all else of a poll."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._remembered: dict[str, tuple[str, Job]] = {}
        self._remembered_before: dict[str, tuple[str, Job]] = {}
        self._forgot_at_s = time.monotonic()
        self._given_back: list[tuple[Request, asyncio.Future[bool]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def claim(
        self, limit: int, lease_ms: int, polls: PollRooms | None = None
    ) -> tuple[list[JobClaim], Counter[str | None]]:
        """Up to `limit` due jobs, and how many polls are due without room, by provider: those named
        in `polls` have room for so many, the others for all."""
        self._forget_old()
        claims: list[JobClaim] = []
        rooms = None if polls is None else {name or MAIN: n for name, n in polls.items()}
        left: Counter[str | None] = Counter()
        first = 0
        while True:
            asked = given(limit=limit - len(claims), lease_ms=lease_ms, polls=rooms, first=first)
            try:
                _, fields = await self._scripts.write("claim", asked)
            except LedgerUnavailable:
                if claims:
                    return claims, left  # these are leased: nobody else may take them for a while
                raise
            claims += map(self._read, fields["claims"])
            for name, polls_left in fields["polls_left"].items():
                left[name or None] += polls_left
            rooms = fields.get("rooms")
            first = fields.get("next", MAX_PASSED)
            if len(claims) >= limit or first >= MAX_PASSED:
                return claims, left

    async def give_back(self, claim: JobClaim, request: Request) -> bool:
        """One of the `jobs` of `reschedule.lua`; false when the claim is lost."""
        if isinstance(claim, ReadClaim):
            self._remembered[claim.job.id] = claim.record, claim.job
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._given_back:
            asyncio.get_running_loop().call_later(BATCH_S, self._send_all)
        self._given_back.append((request, kept))
        return await kept

    def _send_all(self) -> None:
        waiting, self._given_back = self._given_back, []
        for start in range(0, len(waiting), MAX_BATCH):
            task = asyncio.create_task(self._send(waiting[start : start + MAX_BATCH]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: Sequence[tuple[Request, asyncio.Future[bool]]]) -> None:
        try:
            request = {"jobs": [request for request, _ in batch]}
            _, fields = await self._scripts.write("reschedule", request)
        except BaseException as error:
            for _, kept in batch:
                if not kept.done():
                    kept.set_exception(error)
                    kept.exception()  # marked as read: its caller may be gone
            if not isinstance(error, Exception):
                raise
            return
        for (_, kept), word in zip(batch, fields["kept"], strict=True):
            if not kept.done():
                kept.set_result(bool(word))

    def _read(self, row: Sequence[Any]) -> ReadClaim:
        token, late_ms, age_ms, id, status, progress, record = row
        before = self._remembered_before.pop(id, NOTHING)
        known, job = self._remembered.pop(id, before)
        if job is None or known != record:
            changing = {"status": status, "progress": progress}
            job = read_job(unflatten(orjson.loads(record)) | changing)
        elif job.status != status or job.progress != int(progress):
            job = copy_with(job, status=TaskStatus(status), progress=int(progress))
        return ReadClaim(job, token, late_ms, age_ms, record)

    def _forget_old(self) -> None:
        """Jobs that ended, or that other processes poll now, do not come back."""
        now_s = time.monotonic()
        if now_s - self._forgot_at_s >= REMEMBERED_S:
            self._remembered_before, self._remembered = self._remembered, {}
            self._forgot_at_s = now_s
