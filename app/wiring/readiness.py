"""Whether load balancers should send new requests here."""

import time

from app.domain.errors import LedgerUnavailable
from app.service.background import BackgroundTasks
from app.wiring.adapters import Adapters

MAX_ANSWER_AGE_S = 2.0
FAILURE_THRESHOLD, SUCCESS_THRESHOLD = 3, 2


class ReadinessProbe:
    """Ready unless the process drains or cannot spend. The provider's health does not count,
    because every gateway has the same provider.

    The store is asked at most once in two seconds. Three bad answers in a row make the process
    unready and two good ones ready again, so that a short failure does not empty a load balancer.
    After the start one good answer is enough.
    """

    def __init__(self, adapters: Adapters, background: BackgroundTasks) -> None:
        self._adapters, self._background = adapters, background
        self._asked_s = float("-inf")
        self._answered = self._is_ready = False
        self._contrary_answers, self._threshold = 0, 1
        """Answers in a row that contradict the present state, and how many of them change it."""

    async def __call__(self) -> tuple[bool, dict[str, str]]:
        """Whether the process is ready, and one status word per part; the ledger's is of its latest
        answer."""
        if time.monotonic() - self._asked_s >= MAX_ANSWER_AGE_S:
            self._asked_s = time.monotonic()
            await self._ask()
        words = {
            "ledger": self._ledger_word(),
            "journal": self._journal_word(),
            "gateway": "draining" if self._background.is_unready else "ok",
        }
        firm = {word for word in words.values() if word != "unavailable"}
        return self._is_ready and firm <= {"ok"}, words

    def _journal_word(self) -> str:
        if self._adapters.journal.gone():
            return "files_gone"
        if self._adapters.disk_space.full_directory is not None:
            return "disk_full"
        return "ok" if self._adapters.journal.ready() else "failing"

    def _ledger_word(self) -> str:
        if self._adapters.gone():
            return "files_gone"
        if (closed := self._adapters.ledger.condition.closed) is not None:
            return closed.value
        return "ok" if self._answered else "unavailable"

    async def _ask(self) -> None:
        try:
            await self._adapters.ledger.ready()
            self._answered = True
        except LedgerUnavailable:
            self._answered = False
        self._contrary_answers = (
            0 if self._answered is self._is_ready else self._contrary_answers + 1
        )
        if self._contrary_answers == self._threshold:
            self._is_ready, self._contrary_answers = self._answered, 0
            self._threshold = FAILURE_THRESHOLD if self._is_ready else SUCCESS_THRESHOLD
