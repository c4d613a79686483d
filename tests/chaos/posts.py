"""What reached the provider: every generation POST, counted by prompt."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

from app.sandbox.provider import Recorded
from app.sandbox.server import Sandbox

LOOK_EVERY_S = 0.1
"""The sandbox remembers its last 1,000 requests; looking often enough misses none."""


class Posts:
    def __init__(self, sandbox: Sandbox) -> None:
        self.by_prompt: Counter[str] = Counter()
        self._sandbox = sandbox
        self._last: Recorded | None = None

    @property
    def total(self) -> int:
        return self.by_prompt.total()

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def forget(self, prompt: str) -> None:
        """Keep the total and drop the name."""
        if prompt in self.by_prompt:
            self.by_prompt[""] += self.by_prompt.pop(prompt)

    def look(self) -> None:
        fresh = list(self._fresh())
        for request in reversed(fresh):
            self._last = request
            if request.server == "api" and request.method == "POST":
                self.by_prompt[_prompt(request.body)] += 1

    def _fresh(self) -> Iterator[Recorded]:
        """The requests since the last look, newest first."""
        for request in reversed(self._sandbox.requests):
            if request is self._last:
                return
            yield request


def _prompt(body: bytes) -> str:
    """The prompt of a body; of one cut off by a kill, nothing (it was not accepted either)."""
    try:
        return str(json.loads(body)["prompt"])
    except ValueError:
        return ""
