"""The verdict over real clients: was one call bought twice, charged for nothing, or lost?"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from app.domain.failure import UPSTREAM_CODES
from app.domain.job import Job
from app.domain.ledger import Entry, EntryKind, LedgerAudit
from tests.chaos.throng import ClientCall, Throng

REPEATABLE = {code for code, again in UPSTREAM_CODES.items() if again} | {"interrupted", "draining"}
"""Failures that every client may repeat: nothing was bought, and they were told so."""
COLLECTING = "collecting"


@dataclass(frozen=True)
class Aftermath:
    """`posts` by prompt, `billed` the provider's own total, `url` a gateway that is up again."""

    throng: Throng
    posts: Mapping[str, int]
    billed: int
    entries: list[Entry]
    audit: LedgerAudit
    left_open: list[Job]
    crashes: list[str]
    url: str

    @property
    def metered(self) -> int:
        return sum(entry.images + entry.surplus for entry in self.entries)

    @property
    def presumed(self) -> int:
        return sum(entry.presumed for entry in self.entries)

    def problems(self) -> list[str]:
        by_key: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            by_key[entry.key].append(entry)
        found = [*self._totals(), *self.throng.tired(), *self.throng.shared()]
        with httpx.Client(base_url=self.url, timeout=20) as client:
            for call in self.throng.calls:
                entries = by_key[call.key.key.id]
                found += [f"{p} [{call}]" for p in self._of_one(client, call, entries)]
        return found

    def _totals(self) -> Iterator[str]:
        if self.audit.difference or self.audit.open_jobs:
            yield f"the ledger: {self.audit}"
        if not self.metered - self.presumed <= self.billed <= self.metered:
            yield f"metered {self.metered}, presumed {self.presumed}, billed {self.billed}"
        yield from (f"still open: {job}" for job in self.left_open)
        yield from (f"crashed: {line}" for line in self.crashes)

    def _of_one(
        self, client: httpx.Client, call: ClientCall, entries: list[Entry]
    ) -> Iterator[str]:
        released = [entry for entry in entries if entry.kind is EntryKind.RELEASE]
        charges = [entry for entry in entries if entry.kind is EntryKind.SETTLE]
        posts = self.posts.get(call.prompt, 0)
        again = sum(entry.code in REPEATABLE for entry in released)
        if posts > 1 + again:
            codes = [entry.code for entry in entries]
            yield f"{posts} POSTs, {again} of its failures could be repeated: {codes}"
        if len(charges) > 1:
            yield f"charged {len(charges)} times"
        if call.has_picture and not charges:
            yield "a picture that is not in the ledger"
        yield from self._lost(client, call, charges)

    def _lost(self, client: httpx.Client, call: ClientCall, charges: list[Entry]) -> Iterator[str]:
        """What was made reached its owner, is to be had, or is still being fetched."""
        for entry in charges:
            missing = entry.images - entry.presumed - entry.delivered
            if missing <= 0 and call.has_picture:
                continue
            status, pictures = _task(client, call, entry.job)
            if status != COLLECTING and pictures < entry.images - entry.presumed:
                yield f"made and lost: {entry.images} charged ({entry.code}), task {status}"

    def report(self) -> list[str]:
        ends = sorted(self.throng.ends().items())
        tried = sum(1 for call in self.throng.calls if self.posts.get(call.prompt))
        twice = sum(1 for call in self.throng.calls if self.posts.get(call.prompt, 0) > 1)
        return [
            f"calls={len(self.throng.calls)} sent={tried} posts={sum(self.posts.values())} "
            f"more_than_one_post={twice} billed={self.billed} metered={self.metered} "
            f"presumed={self.presumed} difference={self.audit.difference}",
            *(f"  {times:6} {end}" for end, times in ends),
        ]


def _task(client: httpx.Client, call: ClientCall, job: str) -> tuple[str, int]:
    """A task's state and its pictures that open now."""
    headers = {"authorization": f"Bearer {call.key.secret}"}
    told = client.get(f"/v1/tasks/{job}", headers=headers)
    if told.status_code != 200:
        return f"answers {told.status_code}", 0
    items = told.json().get("data") or []
    opened = sum(client.get(i["url"]).status_code == 200 for i in items if i.get("url"))
    return str(told.json()["status"]), opened + sum(1 for i in items if i.get("b64_json"))
