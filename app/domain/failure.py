"""A failure as a value, and what is known about the provider's bill after one."""

from dataclasses import dataclass
from enum import StrEnum


class Proof(StrEnum):
    """What is known about the provider's bill after a failure (reliability study, section 6.1)."""

    NEVER_SENT = "P0"
    """No byte of the request left this machine."""
    REFUSED = "P1"
    """A status below 500 says that nothing was made, whoever said it and in whatever words."""
    FAILED = "P2"
    """The provider said it failed (JSON 5xx, failed task): released, but unverified."""
    UNKNOWN = "P3"
    """Everything else: the work may have been done and billed."""

    @property
    def disproves_charge(self) -> bool:
        return self is not Proof.UNKNOWN


@dataclass(frozen=True, slots=True)
class FailureNote:
    """A failure as a value: what a job record keeps and the edge renders."""

    code: str
    message: str
    retryable: bool = False
    charged: bool = False
    param: str | None = None
    retry_after_s: int | None = None
