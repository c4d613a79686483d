"""Runs the steps of a probe so that Ctrl-C loses no answer that is paid for."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from app.cli.output import print_notice

if TYPE_CHECKING:
    from app.probe.answers import Answers
    from app.probe.calls import ProviderAccess
    from app.probe.conversation import ProbeStep
    from app.probe.questions import Terms


class StopOnInterrupt:
    """The first interrupt waits for the answer that is under way, the second does not."""

    def __init__(self, access: "ProviderAccess", terms: "Terms", answers: "Answers") -> None:
        self._access, self._terms, self._answers = access, terms, answers
        self._stopping = False

    def ask(self, *steps: "ProbeStep") -> None:
        """Raises what `converse` raises, and `KeyboardInterrupt`."""
        from app.probe.conversation import Operator, converse  # noqa: PLC0415 - heavy

        operator = Operator(lambda text: print_notice(f"{text} …"), lambda: self._stopping)
        with self._catching():
            asyncio.run(converse(self._access, self._terms, self._answers, operator, *steps))

    @contextmanager
    def _catching(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._interrupt) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        print_notice("Stopping after the answer that is under way; Ctrl-C again does not wait …")
