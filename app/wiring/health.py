"""Whether new work should come here (reliability study, section 12)."""

import time

from app.domain.errors import LedgerUnavailable
from app.service.drain import Drain
from app.wiring.parts import World

FRESH_S = 2.0
FAILS, OKS = 3, 2


class Readiness:
    """Ready unless leaving or unable to spend; the provider's health decides nothing here.

    The store is asked once in two seconds at most. Three bad answers in a row turn work away and
    two good ones let it in again, so that a blip does not empty a balancer; a process's first good
    answer is enough.
    """

    def __init__(self, world: World, drain: Drain) -> None:
        self._world, self._drain = world, drain
        self._asked_s = float("-inf")
        self._answered = self._able = False
        self._against, self._enough = 0, 1
        """Answers in a row that speak against the present state, and how many change it."""

    async def __call__(self) -> tuple[bool, dict[str, str]]:
        """Able, and one status word per part: the ledger's as of its latest answer."""
        if time.monotonic() - self._asked_s >= FRESH_S:
            self._asked_s = time.monotonic()
            await self._ask()
        words = {
            "ledger": self._ledger_word(),
            "journal": self._journal_word(),
            "gateway": "draining" if self._drain.leaving else "ok",
        }
        firm = {word for word in words.values() if word != "unavailable"}
        return self._able and firm <= {"ok"}, words

    def _journal_word(self) -> str:
        if self._world.journal.gone():
            return "files_gone"
        if self._world.room.full is not None:
            return "disk_full"
        return "ok" if self._world.journal.ready() else "failing"

    def _ledger_word(self) -> str:
        if self._world.gone():
            return "files_gone"
        if not self._world.ledger.intact:
            return "lost_data"
        return "ok" if self._answered else "unavailable"

    async def _ask(self) -> None:
        try:
            await self._world.ledger.ready()
            self._answered = True
        except LedgerUnavailable:
            self._answered = False
        self._against = 0 if self._answered is self._able else self._against + 1
        if self._against == self._enough:
            self._able, self._against = self._answered, 0
            self._enough = FAILS if self._able else OKS
