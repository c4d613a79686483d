"""Questions that cannot cost anything: reading, and requests that cannot be accepted."""

import re
import secrets
import string
import time
from collections.abc import Awaitable, Callable

import orjson

from app.adapters.upstream.wire import ProviderReply
from app.domain.errors import UpstreamError
from app.probe.answers import Record
from app.probe.parts import KeyRefused, ProbeParts, ProviderAway, describe_reply

UNKNOWN_TASK = "task_" + "0" * 24
MALFORMED_TASK = "koi-probe"
CHANGED_LETTERS = 8
BALANCE_PATHS = (
    "dashboard/billing/credit_grants",
    "dashboard/billing/usage",
    "/dashboard/billing/credit_grants",
)
"""Where compatible providers say what was used."""
BALANCE_KEY = re.compile(r"used|usage|balance|available|remain|credit", re.IGNORECASE)
BALANCE_SETTLE_S = 1.0
LATER_S = 60.0
"""A task that ended is read again by a later run, at most once in this time."""
BROKEN_JSON = b'{"model": '

Send = Callable[[], Awaitable[ProviderReply]]


class FreeQuestions:
    """Asks what the file of answers does not hold yet. Methods raise `ProbeStopped`."""

    def __init__(self, parts: ProbeParts) -> None:
        self._parts = parts
        self._calls, self._answers = parts.calls, parts.answers

    async def ask_before(self) -> None:
        """Raises `KeyRefused` and `ProviderAway`."""
        calls = self._calls
        await self._ask("models", lambda: calls.get("models"))
        body = {"model": self._parts.terms.model.sent_name, "prompt": "nothing"}
        asked: dict[str, Send] = {
            "x_api_key": lambda: calls.get("models", auth="x-api-key"),
            "without_v1": lambda: calls.get("/models"),
            "bad_key": lambda: calls.post(body, auth="wrong"),
            "no_key": lambda: calls.post(body, auth="none"),
            "bad_json": lambda: calls.post(BROKEN_JSON),
            "no_route": lambda: calls.get("koi-probe"),
        }
        for name, send in asked.items():
            await self._ask(name, send)

    async def ask_after(self) -> None:
        """What can be read of the tasks that exist now."""
        known = self._task_ids()
        odd = _other_id(known[0]) if known else UNKNOWN_TASK
        await self._ask_task("unknown_task", odd)
        await self._ask_task("malformed_task", MALFORMED_TASK)
        await self._look_again()

    async def read_balance(self, after: str = "") -> None:
        """What the provider says was used, when it has a route for that; `after` which question."""
        earlier = self._answers.find("balance")
        if earlier is not None and earlier["path"] is None:
            return
        if after:
            await self._parts.sleep(min(BALANCE_SETTLE_S, self._calls.access.poll_s))
        for path in BALANCE_PATHS if earlier is None else (str(earlier["path"]),):
            reply = await self._read(lambda path=path: self._calls.get(path))  # type: ignore[misc]
            if reply is not None and (numbers := _balance(reply)):
                self._answers.add("balance", question=after, path=path, numbers=numbers)
                return
        if earlier is None:
            self._answers.add("balance", question=after, path=None, numbers={})

    async def _ask_task(self, name: str, task_id: str) -> None:
        await self._ask(name, lambda: self._calls.poll(task_id, self.poll_path), task_id)

    async def _ask(self, name: str, send: Send, task_id: str | None = None) -> Record:
        """Ask, or take the answer of an earlier run."""
        if (earlier := self._answers.answer(name)) is not None:
            return earlier
        self._parts.check_stop()
        reply = await self._read(send)
        if reply is None:
            raise ProviderAway
        if name == "models" and reply.status == 401:
            raise KeyRefused  # not kept: the next run may have another key
        observer = self._parts.observer
        seen = (
            observer.observe_answer(reply)
            if task_id is None
            else observer.observe_poll(reply, task_id)
        )
        return self._answers.add("answered", question=name, at=time.time(), **describe_reply(seen))

    async def _read(self, send: Send) -> ProviderReply | None:
        try:
            return await self._parts.send_patiently(send)
        except UpstreamError:
            return None

    @property
    def poll_path(self) -> str:
        return self._answers.poll_path

    async def _look_again(self) -> None:
        """Whether a task that ended earlier can still be read, and its link still works."""
        done, ids = self._answers.find("polled"), self._task_ids()
        if done is None or not ids:
            return
        last = max(float(record["at"]) for record in (done, *self._answers.all("later")))
        if time.time() - last < LATER_S:
            return
        reply = await self._read(lambda: self._calls.poll(ids[-1], self.poll_path))
        if reply is None:
            return
        seen = self._parts.observer.observe_poll(reply, ids[-1])
        self._answers.add(
            "later",
            at=time.time(),
            after_s=round(time.time() - float(done["at"])),
            kind=seen.outcome.kind,
            images=await self._parts.look(seen.outcome.images),
        )

    def _task_ids(self) -> list[str]:
        polled = self._answers.all("polled")
        return [str(record["task_id"]) for record in polled if record["kind"] == "images"]


def _balance(reply: ProviderReply) -> dict[str, float]:
    """Numbers of an answer about money, by their names."""
    try:
        document = orjson.loads(reply.body or b"null") if reply.status == 200 else None
    except ValueError:
        return {}
    fields = document.items() if isinstance(document, dict) else ()
    return {
        str(name)[:40]: float(value)
        for name, value in fields
        if BALANCE_KEY.search(str(name))
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def _other_id(task_id: str) -> str:
    """An id of the same form that was never given: its last letters are replaced."""
    kept, changed = task_id[:-CHANGED_LETTERS], task_id[-CHANGED_LETTERS:]
    return kept + "".join(secrets.choice(_alphabet_of(letter)) for letter in changed)


def _alphabet_of(letter: str) -> str:
    for alphabet in (string.digits, "abcdef", string.ascii_lowercase, string.ascii_uppercase):
        if letter in alphabet:
            return alphabet
    return letter
