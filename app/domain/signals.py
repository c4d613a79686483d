"""The port to what processes tell each other."""

from collections.abc import AsyncIterator
from typing import Protocol


class Signals(Protocol):
    """Word that a job ended, from whichever process ended it. Open: a lost signal only delays."""

    def ended(self) -> AsyncIterator[str | None]:
        """Job ids as they end; None when some may have been missed. For as long as it is asked."""
