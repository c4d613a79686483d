"""What a fault is: where it happens, what it does, and whether it is billed."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from app.sandbox.contract import Failure, Json, Problem, Profile, Result, TaskView
from app.sandbox.exchange import Exchange


class Bills(StrEnum):
    """What the provider charges when the fault happens."""

    NOTHING = "nothing"
    ALL = "every image made"
    REFUNDED = "every image made, refunded when the task has failed"
    REFUSAL = "nothing, or every image with the switch moderation_billed"
    WITHHELD = "all but the withheld one, that too with the switch moderation_billed"


@dataclass(frozen=True, slots=True)
class Staged:
    """A POST that a fault answers; `good` is the reply without the fault."""

    exchange: Exchange
    profile: Profile
    good: Json
    arg: str
    cdn_url: str
    now: float

    @property
    def body(self) -> bytes:
        """The good reply as bytes."""
        return json.dumps(self.good).encode()

    async def refuse(self, problem: Problem) -> bool:
        """Sends an error in the profile's shape; no image is delivered."""
        status, body = self.profile.error(problem)
        await self.exchange.json(status, body, problem.headers)
        return False


@dataclass(frozen=True, slots=True)
class Poll:
    """One poll of a task; `number` counts polls, `done` those that found it finished."""

    exchange: Exchange
    profile: Profile
    view: TaskView
    number: int
    done: int
    arg: str
    missing: tuple[int, Json]

    def first(self, default: int) -> bool:
        """Whether this poll is among the first (as many as the argument or the default says)."""
        return self.number <= int(self.arg or default)


@dataclass(frozen=True, slots=True)
class Fetch:
    """One download of a result from the CDN; `index` is its position among the results."""

    exchange: Exchange
    content: bytes
    media_type: str
    number: int
    arg: str
    index: int = 0


ReplyAct: TypeAlias = Callable[[Staged], Awaitable[bool]]
SubmitAct: TypeAlias = Callable[[Json, str, str, str], Json]
ResultAct: TypeAlias = Callable[[Result, str], Result]
TaskAct: TypeAlias = Callable[[Poll], Awaitable[TaskView | None]]
LinkAct: TypeAlias = Callable[[Fetch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the registry; exactly one of the five acts or a failure is set.

    `reply` answers the POST itself (True: the images were sent intact); `submit` changes the
    reply with a task id (body, id, previous id, argument); `result` changes finished items, in a
    sync reply and in a poll alike; `task` changes or replaces the answer to a poll; `link` serves
    the download from the CDN; `failure` makes the generation fail.
    """

    name: str
    bills: Bills
    says: str
    reply: ReplyAct | None = None
    submit: SubmitAct | None = None
    result: ResultAct | None = None
    task: TaskAct | None = None
    link: LinkAct | None = None
    failure: Callable[[str], Failure] | None = None
    extra_images: int = 0
    as_bytes: bool = False

    @property
    def place(self) -> str:
        """Where it happens: reply, submit, result, task, link or failure."""
        acts = {
            "reply": self.reply,
            "submit": self.submit,
            "task": self.task,
            "link": self.link,
            "failure": self.failure,
        }
        return next((place for place, act in acts.items() if act is not None), "result")
