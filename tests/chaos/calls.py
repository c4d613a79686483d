"""One logical call: what somebody wants, however many requests it takes, and how it ended."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.chaos.gateways import MAX_N


class Manner(StrEnum):
    """How a caller makes its requests recognisable as one call."""

    KEYED = "keyed"
    """An Idempotency-Key."""
    MARKED = "marked"
    """`x-stainless-retry-count`, as OpenAI's SDKs do without being asked."""
    TASK = "task"
    """`async`, then polling; keyed and marked."""


class End(StrEnum):
    OPEN = "open"
    PICTURES = "pictures"
    REFUSED = "refused"
    """A failure whose `x-should-retry` is false, or a failed task."""
    LEFT = "left"
    """Hung up early and never came back."""
    TIRED = "tired"
    """Patience ran out although every failure asked for a repeat."""


@dataclass
class Call:
    """What one caller wants. `secret` and `key_id` are this call's alone, so that the ledger's
    entries say which call they belong to; the user is shared."""

    prompt: str
    user: str
    secret: str
    key_id: str
    manner: Manner
    n: int = 1
    response_format: str = "url"
    hurry_s: float | None = None
    comes_back: bool = True
    says_timeout: bool = False
    streams: bool = False
    cancels: bool = False
    end: End = End.OPEN
    code: str | None = None
    attempts: int = 0
    took_s: float = 0.0
    over_at: float | None = None
    """When its caller was done with it, on the monotonic clock."""
    pictures: int = 0
    links: list[str] = field(default_factory=list)
    task_ids: set[str] = field(default_factory=set)
    trail: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def parts(self) -> int:
        """Upstream calls of one job."""
        return -(-self.n // MAX_N)

    @property
    def keyed(self) -> bool:
        return self.manner is not Manner.MARKED

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"model": "grok-imagine", "prompt": self.prompt, "n": self.n}
        if self.response_format != "url":
            body["response_format"] = self.response_format
        if self.manner is Manner.TASK:
            body["async"] = True
        if self.streams:
            body["stream"] = True
        return body

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the next attempt."""
        headers = {"authorization": f"Bearer {self.secret}"}
        if self.keyed:
            headers["idempotency-key"] = f"order of {self.prompt}".replace(" ", "-")
        if self.manner is not Manner.KEYED and self.attempts:
            headers["x-stainless-retry-count"] = str(self.attempts)
        if self.says_timeout:
            headers["x-stainless-read-timeout"] = "4"
        return headers

    @property
    def names(self) -> list[str]:
        """The pictures behind the links, without signatures."""
        return [link.partition("?")[0].rpartition("/")[2] for link in self.links]

    def __str__(self) -> str:
        story = " ".join(self.trail)
        return f"{self.manner} n={self.n} {self.prompt!r} {self.end} {self.code}: {story}"


def drawn(dice: random.Random, prompt: str, user: str, secret: str, key_id: str) -> Call:
    """A call as the crowd makes them: every manner, hang-ups, one to three pictures."""
    hurried = dice.random() < 0.25
    manner = dice.choice([Manner.KEYED, Manner.KEYED, Manner.MARKED, Manner.MARKED, Manner.TASK])
    task = manner is Manner.TASK
    return Call(
        prompt=prompt,
        user=user,
        secret=secret,
        key_id=key_id,
        manner=manner,
        n=dice.choice([1, 1, 1, 2, 3]),
        response_format=dice.choice(["url", "url", "url", "b64_json"]),
        hurry_s=dice.uniform(0.02, 1.0) if hurried else None,
        comes_back=dice.random() < 0.6,
        says_timeout=dice.random() < 0.2,
        streams=not task and dice.random() < 0.15,
        cancels=task and dice.random() < 0.25,
    )
