"""Questions that may cost images: each is sent at most once, whatever becomes of its answer."""

import secrets
import time
from typing import Any

from app.adapters.upstream.observation import ObservedReply
from app.domain.errors import UpstreamError
from app.domain.failure import BillingEvidence
from app.probe.calls import POLL_PATHS
from app.probe.facts import known_so_far
from app.probe.free import FreeQuestions
from app.probe.parts import ProbeParts, ProviderAway, describe_reply
from app.probe.questions import Question, paid_questions
from app.probe.readings import is_hopeless


class PaidQuestions:
    """Asks what was not sent yet and fits in the budget. Methods raise `ProbeStopped`."""

    def __init__(self, parts: ProbeParts, free: FreeQuestions) -> None:
        self._parts, self._free = parts, free
        self._calls, self._answers = parts.calls, parts.answers

    async def ask_all(self) -> None:
        """Raises `ProviderAway`."""
        if self._answers.find("balance") is None:
            await self._free.read_balance()
        for question in paid_questions(self._parts.terms.model):
            self._parts.check_stop()
            if not self._answers.was_sent(question.name):
                await self._send(question)
            answer = self._answers.answer(question.name)
            if answer is not None and answer["kind"] == "task" and question.wants_images:
                await self._follow(question.name, str(answer["task_id"]))
            if is_hopeless(self._answers):
                return

    async def _send(self, question: Question) -> None:
        terms = self._parts.terms
        fields = question.fields(terms, known_so_far(self._answers))
        if fields is None or self._answers.images_paid + question.images > terms.budget:
            return
        self._parts.say(f"{question.says} (at most {_images(question.images)})")
        key = self._idempotency_key() if question.idempotency_key else None
        started = time.monotonic()
        self._answers.add(
            "sent",
            question=question.name,
            at=time.time(),
            images=question.images,
            size=fields.get("size"),
        )
        try:
            reply = await self._calls.post(
                fields,
                idempotency_key=key,
                hang_up_s=terms.hang_up_s if question.hangs_up else None,
            )
        except TimeoutError:
            self._note_silence(question.name, "hung_up", started)
        except UpstreamError as error:
            if error.proof is BillingEvidence.NEVER_SENT:
                self._answers.add("unsent", question=question.name, at=time.time())
                raise ProviderAway from None
            self._note_silence(question.name, error.reason, started)
        else:
            seen = self._parts.observer.observe_answer(reply, str(fields.get("prompt", "")))
            await self._note_answer(question, seen, started)
            if reply.status == 429 and not is_hopeless(self._answers):
                await self._parts.wait_throttled(reply)
        await self._free.read_balance(question.name)

    async def _note_answer(self, question: Question, seen: ObservedReply, started: float) -> None:
        """First that there is an answer: looking at its pictures may be interrupted."""
        took_s = round(time.monotonic() - started, 3)
        self._answers.add(
            "answered",
            question=question.name,
            at=time.time(),
            took_s=took_s,
            count=len(seen.outcome.images),
            **describe_reply(seen),
        )
        if question.wants_images and seen.outcome.images:
            found = await self._parts.look(seen.outcome.images)
            self._answers.add("pictures", question=question.name, images=found)

    def _note_silence(self, name: str, reason: str, started: float) -> None:
        """No answer came, or none that says whether something was made."""
        took_s = round(time.monotonic() - started, 3)
        self._answers.add(
            "answered",
            question=name,
            at=time.time(),
            kind="unclear",
            reason=reason,
            status=None,
            took_s=took_s,
        )

    async def _follow(self, name: str, task_id: str) -> None:
        """Poll a task to its end. Reading is free, so it may be interrupted and begun again."""
        give_up = time.monotonic() + self._calls.access.timeout_s
        words = {record["word"] for record in self._answers.all("polled", name)}
        while self._answers.result(name) is None and time.monotonic() < give_up:
            await self._parts.sleep(self._calls.access.poll_s)
            try:
                reply = await self._calls.poll(task_id, self._answers.poll_path)
            except UpstreamError:
                continue
            seen = self._parts.observer.observe_poll(reply, task_id)
            kind = seen.outcome.kind
            if kind == "missing" and self._try_other_path():
                continue
            if kind == "unclear" or (kind == "task" and seen.word in words):
                continue
            words.add(seen.word)
            await self._note_poll(name, seen)

    async def _note_poll(self, name: str, seen: ObservedReply) -> None:
        pictures: dict[str, Any] = {}
        if seen.outcome.images:
            found = await self._parts.look(seen.outcome.images)
            pictures = {"images": found, "count": len(found)}
        self._answers.add(
            "polled", question=name, at=time.time(), **describe_reply(seen), **pictures
        )

    def _try_other_path(self) -> bool:
        """A task that nobody knows may be read elsewhere, unless a poll has succeeded before."""
        tried = POLL_PATHS.index(self._answers.poll_path)
        if self._answers.find("polled") is not None or tried + 1 == len(POLL_PATHS):
            return False
        self._answers.add("poll_path", path=POLL_PATHS[tried + 1])
        return True

    def _idempotency_key(self) -> str:
        earlier = self._answers.find("idempotency_key")
        if earlier is None:
            name = f"koi-probe-{secrets.token_hex(8)}"
            earlier = self._answers.add("idempotency_key", name=name)
        return str(earlier["name"])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
