"""Who waits here for an answer, and whether they are still there (decision 21).

A caller that hangs up and repeats at once may be admitted again before its departure was noticed.
So admission asks: the process that serves the earlier caller looks at its socket.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import LedgerUnavailable
from app.domain.job import CacheSlot
from app.domain.ledger import Presence, Receipt, Repeat
from app.domain.ports import Ledger, Signals

SECOND_LOOK_S = 0.02
"""A proxy may hand on the repeat before it hangs up the first call."""
DEPARTED_S = 0.25
"""So long what a caller leaves behind may take to be written down."""
QUORUM_S, SILENT_S = 0.3, 1.2
"""How long a caller nobody knows may still turn up: once every listener has answered, and at most
(a process that is frozen does not answer)."""
HALF_CLOSED_S = (0.01, 0.04, 0.1, 0.15)
"""Pauses within which a caller that only closed its own side turns out to read on."""
RECEIPTS_S = 0.1
REMEMBERED = 4096


def always() -> bool:
    return True


@dataclass(eq=False, slots=True)
class Call:
    """One request from its arrival until its caller is done with.

    `id` is the job it would open and `job_id` the one it waits for; as a guest, it waits for what
    fills the cache's `slot` for somebody else. `present` looks at the caller's socket; `attempt`
    names its key and body. `refused_before`: it may be the retry of a refusal.
    """

    id: str
    attempt: str
    repeat: Repeat
    present: Callable[[], bool]
    job_id: str
    refused_before: bool = False
    slot: CacheSlot | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def stays(self) -> bool:
        """Whether the caller is there, also when it only closed its own side just now."""
        for pause_s in HALF_CLOSED_S:
            if self.present():
                return True
            await asyncio.sleep(pause_s)
        return self.present()


class Callers:
    def __init__(self, ledger: Ledger, signals: Signals) -> None:
        self._ledger, self._signals = ledger, signals
        self._calls: dict[str, Call] = {}
        self._guests: dict[str, set[Call]] = {}
        """By attempt."""
        self._served: OrderedDict[str, None] = OrderedDict()
        self._receipts: list[Call] = []
        self._some = asyncio.Event()
        self._questions: dict[str, _Question] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def enter(self, call: Call) -> None:
        self._calls[call.id] = call

    def known(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def sit_in(self, call: Call, slot: CacheSlot | None) -> None:
        """From now on the call is a guest at this slot; at none, it is no guest any more."""
        if call.slot is slot is None:
            return
        call.slot = slot
        guests = self._guests.setdefault(call.attempt, set())
        guests.discard(call) if slot is None else guests.add(call)
        if not guests:
            del self._guests[call.attempt]

    def leave(self, call: Call) -> None:
        """This caller is done with; harmless when it was before."""
        self._calls.pop(call.id, None)
        self.sit_in(call, None)
        call.over.set()

    def served(self, call: Call) -> None:
        """Its whole answer went out, and nothing says that the caller is gone."""
        self._served[call.id] = None
        if len(self._served) > REMEMBERED:
            self._served.popitem(last=False)
        self._receipts.append(call)
        self._some.set()
        self.leave(call)

    async def hand_in(self) -> None:
        """Tell the ledger who was served, many at once. What is lost errs on the free side, as
        does a caller whose connection ends now: it may have hung up while the answer came."""
        while True:
            await self._some.wait()
            self._some.clear()
            served, self._receipts = self._receipts, []
            await asyncio.sleep(RECEIPTS_S)
            receipts = [Receipt(call.job_id, call.id) for call in served if call.present()]
            if receipts:
                await self._ledger.received(receipts)

    async def departed(self, attempt: str) -> None:
        """Wait until what guests with this attempt left behind is written down, if any hung up."""
        gone = [guest for guest in self._guests.get(attempt, ()) if not guest.present()]
        await _all_over(gone, DEPARTED_S)

    async def ask(self, calls: Sequence[str]) -> dict[str, Presence]:
        """What is known of each of these calls now, in whatever process."""
        words, elsewhere = await self._here(calls)
        if elsewhere:
            words |= await self._ask_others(elsewhere)
        return words

    async def _here(self, calls: Sequence[str]) -> tuple[dict[str, Presence], list[str]]:
        """What this process knows of its own, and the calls that are none of them."""
        mine = {call for call in map(self.known, calls) if call is not None}
        served = {id for id in calls if id in self._served}
        if mine:
            left = await _left(mine)
            await _all_over(left, DEPARTED_S)
            served |= {call.id for call in mine if call.id in self._served}
            words = {call.id: _word(call in left and call.id not in served) for call in mine}
        else:
            words = {}
        words |= dict.fromkeys(served, Presence.HERE)
        return words, [id for id in calls if id not in words]

    # Other processes ---------------------------------------------------------------------------

    async def _ask_others(self, calls: Sequence[str]) -> dict[str, Presence]:
        nonce = secrets.token_hex(8)
        question = self._questions[nonce] = _Question(set(calls))
        try:
            listeners = await self._signals.say(" ".join(["?", nonce, *calls]))
            await question.answered(listeners)
        except LedgerUnavailable:
            return dict.fromkeys(calls, Presence.HERE)
        finally:
            del self._questions[nonce]
        return {id: question.words.get(id, Presence.SILENT) for id in calls}

    async def listen(self) -> None:
        """Answer the other processes, and hear their answers."""
        async for word in self._signals.said():
            self.hear(word)

    def hear(self, message: str) -> None:
        """A question of some process (`? <nonce> <call>…`), or what one knows (`! <nonce>
        <call>=<word>…`)."""
        kind, _, rest = message.partition(" ")
        nonce, *words = rest.split(" ")
        if kind == "!" and nonce in self._questions:
            self._questions[nonce].hear(dict(word.split("=", 1) for word in words if "=" in word))
        elif kind == "?":
            self._start(self._answer(nonce, words))

    async def _answer(self, nonce: str, calls: Sequence[str]) -> None:
        words, _ = await self._here(calls)
        known = (f"{id}={word.value}" for id, word in words.items())
        try:
            await self._signals.say(" ".join(["!", nonce, *known]))
        except LedgerUnavailable:
            return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="koi-callers")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


class _Question:
    """One question to every process, and what they answered so far."""

    def __init__(self, calls: set[str]) -> None:
        self._calls = calls
        self._answers = 0
        self._news = asyncio.Event()
        self.words: dict[str, Presence] = {}

    def hear(self, words: Mapping[str, str]) -> None:
        self._answers += 1
        for id, word in words.items():
            if id in self._calls and word in (Presence.HERE, Presence.LEFT):
                self.words[id] = Presence(word)
        self._news.set()

    async def answered(self, listeners: int) -> None:
        """Wait until every call is known, or nobody is left who might know it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while len(self.words) < len(self._calls):
            patience_s = QUORUM_S if self._answers >= listeners else SILENT_S
            left_s = began + patience_s - loop.time()
            if left_s <= 0:
                return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left_s)
            except TimeoutError:
                continue


async def _left(calls: Iterable[Call]) -> set[Call]:
    """Those who hung up; the loop is given its turn first, and the others are looked at twice."""
    await asyncio.sleep(0)
    left = {call for call in calls if not call.present()}
    here = [call for call in calls if call not in left]
    if here:
        await asyncio.sleep(SECOND_LOOK_S)
        left |= {call for call in here if not call.present()}
    return left


async def _all_over(calls: Iterable[Call], within_s: float) -> None:
    waits = [asyncio.ensure_future(call.over.wait()) for call in calls]
    if waits:
        _, late = await asyncio.wait(waits, timeout=within_s)
        for wait in late:
            wait.cancel()


def _word(left: bool) -> Presence:
    return Presence.LEFT if left else Presence.HERE
