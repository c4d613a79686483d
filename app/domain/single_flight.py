"""One question for all who ask it while it is under way, as Go's `singleflight`."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Questions by name. Whoever leaves does not take the question along: others wait for it."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Task[T]] = {}

    async def ask(self, name: str, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of the question under way, or of this one. What it raises, all get."""
        asked = self._asked.get(name)
        if asked is None:
            asked = self._asked[name] = asyncio.create_task(question())
            asked.add_done_callback(partial(self._forget, name))
        return await asyncio.shield(asked)

    def clear(self) -> None:
        """Whoever asks from now on is not told an answer to an earlier question."""
        self._asked.clear()

    def _forget(self, name: str, asked: "asyncio.Task[T]") -> None:
        if self._asked.get(name) is asked:
            del self._asked[name]
        if not asked.cancelled():
            asked.exception()  # marked as read: whoever asked may be gone
