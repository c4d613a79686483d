"""The port by which the processes of a deployment hear of each other."""

from collections.abc import AsyncIterator
from typing import Protocol


class Signals(Protocol):
    """Word that a job ended, from whichever process ended it. Open: a lost signal only delays."""

    def ended(self) -> AsyncIterator[str | None]:
        """Job ids as they end; None when some may have been missed. For as long as it is asked."""

    async def say(self, word: str) -> int:
        """Say something to every process that serves callers, this one too; how many listen.

        Raises `LedgerUnavailable`.
        """

    def said(self) -> AsyncIterator[str]:
        """What processes say, for as long as it is asked."""
