"""One run of a probe: which questions are asked now, and what is left to ask."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from app.adapters.upstream.observation import ReplyObserver
from app.probe.answers import Answers
from app.probe.calls import ProviderAccess, ProviderCalls
from app.probe.facts import known_so_far
from app.probe.free import FreeQuestions
from app.probe.keep_alive import IdleConnection
from app.probe.paid import PaidQuestions
from app.probe.parts import ProbeParts
from app.probe.pictures import PictureViewer
from app.probe.questions import Terms, paid_questions
from app.probe.readings import is_hopeless


class ProbeStep(StrEnum):
    """The parts of a probe, in their order."""

    FREE = "free"
    PAID = "paid"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Operator:
    """The person in front of the probe: `stopping` says whether they want to end it."""

    say: Callable[[str], None]
    stopping: Callable[[], bool]


async def converse(
    access: ProviderAccess,
    terms: Terms,
    answers: Answers,
    operator: Operator,
    *steps: ProbeStep,
) -> None:
    """Ask what is open of these steps. Raises `ProbeStopped`, `KeyRefused`, `ProviderAway`."""
    calls, viewer = ProviderCalls(access), PictureViewer(access.base_url)
    observer = ReplyObserver(access.base_url, (access.key,), terms.model.sent_name)
    parts = ProbeParts(calls, viewer, observer, answers, terms, operator.say, operator.stopping)
    free = FreeQuestions(parts)
    idle = IdleConnection(access) if ProbeStep.PAID in steps else None
    try:
        if ProbeStep.FREE in steps:
            await free.ask_before()
        if ProbeStep.PAID in steps:
            await PaidQuestions(parts, free).ask_all()
        if ProbeStep.AFTER in steps:
            await free.ask_after()
    finally:
        found = None if idle is None else await idle.end()
        if found is not None:
            answers.add("idle", at=time.time(), **found)
        await calls.close()
        await viewer.close()


def images_at_most(answers: Answers, terms: Terms) -> int:
    """How many images a run would pay for now at most; 0 when nothing is left to be paid for."""
    left, known = terms.budget - answers.images_paid, known_so_far(answers)
    unsent = [q for q in paid_questions(terms.model) if not answers.was_sent(q.name)]
    asked_now = (q for q in unsent if q.fields(terms, known) is not None and q.images <= left)
    if is_hopeless(answers) or not any(asked_now):
        return 0
    # The answers decide which further questions make sense, so all of them count.
    return min(left, sum(question.images for question in unsent))


def has_open_tasks(answers: Answers) -> bool:
    """Whether a task that was paid for was not read to its end."""
    return any(
        record["kind"] == "task" and answers.result(str(record["question"])) is None
        for record in answers.all("answered")
    )
