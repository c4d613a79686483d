"""A rolling verdict: calls are judged as soon as their jobs are settled, and then forgotten.

So a storm of hours needs no more memory than one of minutes, and no more API keys: a key is one
call's alone until that call was judged, which is how entries of the ledger find their call.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis

from app.adapters.redis.keyspace import KEYS
from app.domain.ledger import Entry
from app.service.keys import IssuedKey
from app.wiring.operator import OperatorContext
from tests.chaos.calls import Call
from tests.chaos.crowd import Crowd
from tests.chaos.posts import Posts
from tests.chaos.verdict import contradictions

NAMES = {key.noun: key.name for key in KEYS}
MOST_PROBLEMS = 50
SLOWEST = 3


@dataclass
class Clerk:
    """`settle_s`: how long after its end a call is judged at the earliest, so that a request
    still on its way when its caller hung up has reached the ledger."""

    crowd: Crowd
    posts: Posts
    settle_s: float
    ends: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    attempts: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)
    """The calls that took longest, with their stories."""
    longest_open_s: float = 0.0
    """The longest time from a call's end to the end of its last job, as seen here."""
    _issued: dict[str, IssuedKey] = field(default_factory=dict)
    _entries: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _last: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self._issued = {key.key.id: key for keys in self.crowd.keys.values() for key in keys}

    @property
    def judged(self) -> int:
        return self.ends.total()

    async def look(
        self, operator: OperatorContext, server: redis.Redis, *, finally_: bool = False
    ) -> None:
        """Judge what can be judged. Raises what the store raises when it is away."""
        # First who is open, then the entries: what is not open any more has its entry.
        still_open = open_keys(server)
        await self._read(operator)
        self.posts.look()
        for call in list(self.crowd.calls):
            if call.over_at is None:
                continue
            waited_s = time.monotonic() - call.over_at
            if call.key_id in still_open:
                self.longest_open_s = max(self.longest_open_s, waited_s)
            elif finally_ or waited_s >= self.settle_s:
                self._judge(call)
        self.strangers()

    def _judge(self, call: Call) -> None:
        entries = self._entries.pop(call.key_id, [])
        self._add(contradictions(call, entries, self.posts.by_prompt[call.prompt]))
        self.ends[call.end.value] += 1
        if call.code is not None:
            self.codes[call.code] += 1
        self.attempts += call.attempts
        self.slowest = sorted([*self.slowest, (call.took_s, str(call))])[-SLOWEST:]
        self.posts.forget(call.prompt)
        self.crowd.calls.remove(call)
        self.crowd.keys[call.user].insert(0, self._issued[call.key_id])

    def strangers(self) -> None:
        """POSTs and entries of calls that were judged already: somebody came too late."""
        prompts = {call.prompt for call in self.crowd.calls} | {""}
        self._add(f"a POST after the end of {p!r}" for p in set(self.posts.by_prompt) - prompts)
        held = {call.key_id for call in self.crowd.calls}
        for key in set(self._entries) - held:
            self._add(f"an entry after the end of its call: {e}" for e in self._entries.pop(key))

    async def _read(self, operator: OperatorContext) -> None:
        async for entry in operator.ledger.entries(self._last[0]):
            at_ms, number = (int(part) for part in entry.id.split("-"))
            if (at_ms, number) > self._last:
                self._last = (at_ms, number)
                self._entries[entry.key].append(entry)

    def _add(self, problems: Iterable[str]) -> None:
        self.problems += problems
        del self.problems[MOST_PROBLEMS:]


def open_keys(server: redis.Redis) -> set[str]:
    """The API keys of all open jobs."""
    pipe = server.pipeline(transaction=False)
    for job in server.zrange(NAMES["due"], 0, -1):
        pipe.hget(NAMES["job"] + job, "key")
    return {key for key in pipe.execute() if key is not None}
