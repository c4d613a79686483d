"""How far a request got: whether anything was sent decides who pays."""

import time
from dataclasses import dataclass
from enum import Enum, auto


class SendStage(Enum):
    """How far a request got."""

    UNREPORTED = auto()
    WAITING = auto()
    CONNECTING = auto()
    SENT = auto()


@dataclass(slots=True)
class SendState:
    """Where a request is; the caller hands it to the client and reads it when something fails."""

    stage: SendStage = SendStage.UNREPORTED
    since: float = 0.0
    """When this stage began: monotonic seconds, which the event loop's clock counts too."""

    def enter(self, stage: SendStage) -> None:
        self.stage, self.since = stage, time.monotonic()

    @property
    def sent(self) -> bool:
        """False proves that nothing was sent. True only means that something may have been sent,
        also when a client does not report stages."""
        return self.stage not in (SendStage.WAITING, SendStage.CONNECTING)
