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

from app.domain.errors import StoreUnavailable
from app.domain.job import CacheVariant
from app.domain.ledger import AnswerReceipt, CallerPresence, DedupKeys
from app.domain.ports import Ledger, SignalBus

RECHECK_S = 0.02
"""A proxy may hand on the repeat before it hangs up the first call."""
DEPARTURE_WAIT_S = 0.25
"""So long what a caller leaves behind may take to be written down."""
QUORUM_S, SILENT_S = 0.3, 1.2
"""How long a caller nobody knows may still turn up: once every listener has answered, and at most
(a process that is frozen does not answer)."""
HALF_CLOSED_S = (0.01, 0.04, 0.1, 0.15)
"""Pauses within which a caller that only closed its own side turns out to read on."""
RECEIPTS_S = 0.1
MAX_REMEMBERED = 4096


def always_present() -> bool:
    return True


@dataclass(eq=False, slots=True)
class WaitingCaller:
    """One request from its arrival until its caller is done with.

    `id` is the job it would open and `job_id` the one it waits for; as a guest, it waits for what
    fills the cache's `variant` for somebody else. `is_present` looks at the caller's socket;
    `attempt` names its key and body. `refused_before`: it may be the retry of a refusal.
    """

    id: str
    attempt: str
    dedup_keys: DedupKeys
    is_present: Callable[[], bool]
    job_id: str
    refused_before: bool = False
    cache_variant: CacheVariant | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def is_still_there(self) -> bool:
        """Whether the caller is there, also when it only closed its own side just now."""
        for pause_s in HALF_CLOSED_S:
            if self.is_present():
                return True
            await asyncio.sleep(pause_s)
        return self.is_present()


class CallerRegistry:
    def __init__(self, ledger: Ledger, signals: SignalBus) -> None:
        self._ledger, self._signals = ledger, signals
        self._calls: dict[str, WaitingCaller] = {}
        self._guests: dict[str, set[WaitingCaller]] = {}
        """By attempt."""
        self._served: OrderedDict[str, None] = OrderedDict()
        self._receipts: list[WaitingCaller] = []
        self._some = asyncio.Event()
        self._questions: dict[str, _Question] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def register(self, caller: WaitingCaller) -> None:
        self._calls[caller.id] = caller

    def find(self, call_id: str) -> WaitingCaller | None:
        return self._calls.get(call_id)

    def set_awaited_variant(self, caller: WaitingCaller, variant: CacheVariant | None) -> None:
        """From now on the call is a guest at this slot; at none, it is no guest any more."""
        if caller.cache_variant is variant is None:
            return
        caller.cache_variant = variant
        guests = self._guests.setdefault(caller.attempt, set())
        guests.discard(caller) if variant is None else guests.add(caller)
        if not guests:
            del self._guests[caller.attempt]

    def deregister(self, caller: WaitingCaller) -> None:
        """This caller is done with; harmless when it was before."""
        self._calls.pop(caller.id, None)
        self.set_awaited_variant(caller, None)
        caller.done.set()

    def mark_served(self, caller: WaitingCaller) -> None:
        """Its whole answer went out, and nothing says that the caller is gone."""
        self._served[caller.id] = None
        if len(self._served) > MAX_REMEMBERED:
            self._served.popitem(last=False)
        self._receipts.append(caller)
        self._some.set()
        self.deregister(caller)

    async def send_receipts(self) -> None:
        """Tell the ledger who was served, many at once. What is lost errs on the free side, as
        does a caller whose connection ends now: it may have hung up while the answer came."""
        while True:
            await self._some.wait()
            self._some.clear()
            served, self._receipts = self._receipts, []
            await asyncio.sleep(RECEIPTS_S)
            receipts = [
                AnswerReceipt(caller.job_id, caller.id) for caller in served if caller.is_present()
            ]
            if receipts:
                await self._ledger.save_receipts(receipts)

    async def wait_for_departures(self, attempt: str) -> None:
        """Wait until what guests with this attempt left behind is written down, if any hung up."""
        gone = [guest for guest in self._guests.get(attempt, ()) if not guest.is_present()]
        await _all_over(gone, DEPARTURE_WAIT_S)

    async def ask(self, calls: Sequence[str]) -> dict[str, CallerPresence]:
        """What is known of each of these calls now, in whatever process."""
        words, elsewhere = await self._here(calls)
        if elsewhere:
            words |= await self._ask_others(elsewhere)
        return words

    async def _here(self, calls: Sequence[str]) -> tuple[dict[str, CallerPresence], list[str]]:
        """What this process knows of its own, and the calls that are none of them."""
        mine = {caller for caller in map(self.find, calls) if caller is not None}
        served = {id for id in calls if id in self._served}
        if mine:
            left = await _left(mine)
            await _all_over(left, DEPARTURE_WAIT_S)
            served |= {caller.id for caller in mine if caller.id in self._served}
            words = {
                caller.id: _word(caller in left and caller.id not in served) for caller in mine
            }
        else:
            words = {}
        words |= dict.fromkeys(served, CallerPresence.CONNECTED)
        return words, [id for id in calls if id not in words]

    # Other processes ---------------------------------------------------------------------------

    async def _ask_others(self, calls: Sequence[str]) -> dict[str, CallerPresence]:
        nonce = secrets.token_hex(8)
        question = self._questions[nonce] = _Question(set(calls))
        try:
            listeners = await self._signals.publish(" ".join(["?", nonce, *calls]))
            await question.answered(listeners)
        except StoreUnavailable:
            return dict.fromkeys(calls, CallerPresence.CONNECTED)
        finally:
            del self._questions[nonce]
        return {id: question.words.get(id, CallerPresence.UNRESPONSIVE) for id in calls}

    async def listen(self) -> None:
        """Answer the other processes, and hear their answers."""
        async for word in self._signals.caller_messages():
            self.handle(word)

    def handle(self, message: str) -> None:
        """A question of some process (`? <nonce> <caller>…`), or what one knows (`! <nonce>
        <call>=<word>…`)."""
        kind, _, rest = message.partition(" ")
        nonce, *words = rest.split(" ")
        if kind == "!" and nonce in self._questions:
            self._questions[nonce].handle(dict(word.split("=", 1) for word in words if "=" in word))
        elif kind == "?":
            self._start(self._answer(nonce, words))

    async def _answer(self, nonce: str, calls: Sequence[str]) -> None:
        words, _ = await self._here(calls)
        known = (f"{id}={word.value}" for id, word in words.items())
        try:
            await self._signals.publish(" ".join(["!", nonce, *known]))
        except StoreUnavailable:
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
        self.words: dict[str, CallerPresence] = {}

    def handle(self, words: Mapping[str, str]) -> None:
        self._answers += 1
        for id, word in words.items():
            if id in self._calls and word in (
                CallerPresence.CONNECTED,
                CallerPresence.DISCONNECTED,
            ):
                self.words[id] = CallerPresence(word)
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


async def _left(calls: Iterable[WaitingCaller]) -> set[WaitingCaller]:
    """Those who hung up; the loop is given its turn first, and the others are looked at twice."""
    await asyncio.sleep(0)
    left = {caller for caller in calls if not caller.is_present()}
    here = [caller for caller in calls if caller not in left]
    if here:
        await asyncio.sleep(RECHECK_S)
        left |= {caller for caller in here if not caller.is_present()}
    return left


async def _all_over(calls: Iterable[WaitingCaller], within_s: float) -> None:
    waits = [asyncio.ensure_future(caller.done.wait()) for caller in calls]
    if waits:
        _, late = await asyncio.wait(waits, timeout=within_s)
        for wait in late:
            wait.cancel()


def _word(left: bool) -> CallerPresence:
    return CallerPresence.DISCONNECTED if left else CallerPresence.CONNECTED
