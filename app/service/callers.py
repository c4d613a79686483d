"""Who waits here for an answer, and whether they are still connected (decision 21).

A caller that hangs up and repeats at once may be admitted again before this gateway notices that
it left. So admission asks, and the process that serves the earlier caller looks at its socket.
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
from app.service.lean_event import LeanEvent

RECHECK_S = 0.02
"""Pause between two looks at a socket: a proxy may pass on the repeat before it closes the first
connection."""
DEPARTURE_WAIT_S = 0.25
"""How long the ledger may take to record that a caller left."""
QUORUM_S, SILENT_S = 0.3, 1.2
"""How long to wait for news of an unknown caller: once every listener has answered, and at most
(a frozen process does not answer)."""
HALF_CLOSED_S = (0.01, 0.04, 0.1, 0.15)
"""Pauses between looks at a caller that closed its sending side: it may still be reading."""
RECEIPTS_S = 0.1
MAX_REMEMBERED = 4096


def always_present() -> bool:
    return True


@dataclass(eq=False, slots=True)
class WaitingCaller:
    """One request, from its arrival until nobody waits for its answer any more.

    `id` is the job it would open and `job_id` the one it waits for. `cache_variant` is set while it
    waits for a picture that another caller's job makes. `is_present` looks at the caller's socket;
    `attempt` names its key and body; `refused_before` says that it may be the retry of a refusal.
    """

    id: str
    attempt: str
    dedup_keys: DedupKeys
    is_present: Callable[[], bool]
    job_id: str
    refused_before: bool = False
    cache_variant: CacheVariant | None = None
    done: LeanEvent = field(default_factory=LeanEvent)

    async def is_still_there(self) -> bool:
        """Whether the caller is connected, also when it has just closed its sending side only."""
        for pause_s in HALF_CLOSED_S:
            if self.is_present():
                return True
            await asyncio.sleep(pause_s)
        return self.is_present()


class CallerRegistry:
    def __init__(self, ledger: Ledger, signals: SignalBus) -> None:
        self._ledger, self._signals = ledger, signals
        self._callers: dict[str, WaitingCaller] = {}
        self._joined: dict[str, set[WaitingCaller]] = {}
        """Callers that wait for another caller's job through the cache, by attempt."""
        self._served: OrderedDict[str, None] = OrderedDict()
        self._receipts: list[WaitingCaller] = []
        self._has_receipts = asyncio.Event()
        self._questions: dict[str, _Question] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def register(self, caller: WaitingCaller) -> None:
        self._callers[caller.id] = caller

    def find(self, caller_id: str) -> WaitingCaller | None:
        return self._callers.get(caller_id)

    def set_awaited_variant(self, caller: WaitingCaller, variant: CacheVariant | None) -> None:
        """The caller now waits for this cache variant, which another caller's job fills; None when
        it does not any more."""
        if caller.cache_variant is variant is None:
            return
        caller.cache_variant = variant
        joined = self._joined.setdefault(caller.attempt, set())
        joined.discard(caller) if variant is None else joined.add(caller)
        if not joined:
            del self._joined[caller.attempt]

    def deregister(self, caller: WaitingCaller) -> None:
        """Nobody waits for this caller's answer any more. May be repeated."""
        self._callers.pop(caller.id, None)
        self.set_awaited_variant(caller, None)
        caller.done.set()

    def mark_served(self, caller: WaitingCaller) -> None:
        """The whole answer was sent, and nothing says that the caller is gone."""
        self._served[caller.id] = None
        if len(self._served) > MAX_REMEMBERED:
            self._served.popitem(last=False)
        self._receipts.append(caller)
        self._has_receipts.set()
        self.deregister(caller)

    async def send_receipts(self) -> None:
        """Tell the ledger who was served, many callers at once.

        A receipt that is lost costs nobody anything: the next identical request joins the job. The
        same holds for a caller whose connection ends now, since it may have hung up while the
        answer was sent: it gets no receipt.
        """
        while True:
            await self._has_receipts.wait()
            self._has_receipts.clear()
            served, self._receipts = self._receipts, []
            await asyncio.sleep(RECEIPTS_S)
            receipts = [
                AnswerReceipt(caller.job_id, caller.id) for caller in served if caller.is_present()
            ]
            if receipts:
                await self._ledger.save_receipts(receipts)

    async def wait_for_departures(self, attempt: str) -> None:
        """Wait until the departure of joined callers with this attempt is recorded, if any left."""
        gone = [caller for caller in self._joined.get(attempt, ()) if not caller.is_present()]
        await _all_over(gone, DEPARTURE_WAIT_S)

    async def ask(self, caller_ids: Sequence[str]) -> dict[str, CallerPresence]:
        """What is known now of each of these callers, in this and all other processes."""
        found, elsewhere = await self._here(caller_ids)
        if elsewhere:
            found |= await self._ask_others(elsewhere)
        return found

    async def _here(self, caller_ids: Sequence[str]) -> tuple[dict[str, CallerPresence], list[str]]:
        """What this process knows of its own callers, and which of these are not its own."""
        mine = {caller for caller in map(self.find, caller_ids) if caller is not None}
        served = {id for id in caller_ids if id in self._served}
        if mine:
            left = await _left(mine)
            await _all_over(left, DEPARTURE_WAIT_S)
            served |= {caller.id for caller in mine if caller.id in self._served}
            found = {
                caller.id: _word(caller in left and caller.id not in served) for caller in mine
            }
        else:
            found = {}
        found |= dict.fromkeys(served, CallerPresence.CONNECTED)
        return found, [id for id in caller_ids if id not in found]

    # Other processes ---------------------------------------------------------------------------

    async def _ask_others(self, caller_ids: Sequence[str]) -> dict[str, CallerPresence]:
        nonce = secrets.token_hex(8)
        question = self._questions[nonce] = _Question(set(caller_ids))
        try:
            listeners = await self._signals.publish(" ".join(["?", nonce, *caller_ids]))
            await question.answered(listeners)
        except StoreUnavailable:
            return dict.fromkeys(caller_ids, CallerPresence.CONNECTED)
        finally:
            del self._questions[nonce]
        return {id: question.presences.get(id, CallerPresence.UNRESPONSIVE) for id in caller_ids}

    async def listen(self) -> None:
        """Answer the questions of other processes, and take their answers."""
        async for word in self._signals.caller_messages():
            self.handle(word)

    def handle(self, message: str) -> None:
        """A question of some process (`? <nonce> <caller>…`), or an answer (`! <nonce>
        <caller>=<presence>…`)."""
        kind, _, rest = message.partition(" ")
        nonce, *items = rest.split(" ")
        if kind == "!" and nonce in self._questions:
            self._questions[nonce].handle(dict(word.split("=", 1) for word in items if "=" in word))
        elif kind == "?":
            self._start(self._answer(nonce, items))

    async def _answer(self, nonce: str, caller_ids: Sequence[str]) -> None:
        found, _ = await self._here(caller_ids)
        known = (f"{id}={word.value}" for id, word in found.items())
        try:
            await self._signals.publish(" ".join(["!", nonce, *known]))
        except StoreUnavailable:
            return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="koi-callers")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


class _Question:
    """One question to every process, and the answers so far."""

    def __init__(self, caller_ids: set[str]) -> None:
        self._caller_ids = caller_ids
        self._answers = 0
        self._changed = asyncio.Event()
        self.presences: dict[str, CallerPresence] = {}

    def handle(self, words: Mapping[str, str]) -> None:
        self._answers += 1
        for id, word in words.items():
            if id in self._caller_ids and word in (
                CallerPresence.CONNECTED,
                CallerPresence.DISCONNECTED,
            ):
                self.presences[id] = CallerPresence(word)
        self._changed.set()

    async def answered(self, listeners: int) -> None:
        """Wait until every caller is known, or no process is left that might know it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while len(self.presences) < len(self._caller_ids):
            patience_s = QUORUM_S if self._answers >= listeners else SILENT_S
            left_s = began + patience_s - loop.time()
            if left_s <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                continue


async def _left(callers: Iterable[WaitingCaller]) -> set[WaitingCaller]:
    """The callers that hung up. The event loop runs first, so that it sees closed sockets, and
    those that seem connected are looked at twice."""
    await asyncio.sleep(0)
    left = {caller for caller in callers if not caller.is_present()}
    here = [caller for caller in callers if caller not in left]
    if here:
        await asyncio.sleep(RECHECK_S)
        left |= {caller for caller in here if not caller.is_present()}
    return left


async def _all_over(callers: Iterable[WaitingCaller], within_s: float) -> None:
    waits = [asyncio.ensure_future(caller.done.wait()) for caller in callers]
    if waits:
        _, late = await asyncio.wait(waits, timeout=within_s)
        for wait in late:
            wait.cancel()


def _word(left: bool) -> CallerPresence:
    return CallerPresence.DISCONNECTED if left else CallerPresence.CONNECTED
