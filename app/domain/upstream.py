"""What the provider can answer, whatever its dialect."""

import re
from dataclasses import dataclass

from app.domain.images import ProviderImage
from app.domain.job import TaskStatus

CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
"""What a call may be named on the provider's bill; use with `fullmatch`."""


@dataclass(frozen=True, slots=True)
class Running:
    """The provider works on it under its own id (`[A-Za-z0-9_-]{1,128}`).

    `progress` is 0-100 or None when not said; `recognised` is false for a status word nobody has
    seen before. `request_id` names the POST (`CALL_ID`), if its answer said so.
    """

    upstream_id: str
    status: TaskStatus = TaskStatus.PROCESSING
    progress: int | None = None
    recognised: bool = True
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider's images, at least one and possibly more or fewer than asked."""

    images: tuple[ProviderImage, ...]
    request_id: str | None = None


Answer = Running | Finished


class PollTroubled(Exception):
    """A poll that says nothing about the task: network trouble, 5xx, 429. Ask again later.

    `missing` is true when the provider does not know the task: normal right after the submit
    (contract study, section 4), later a sign that it is lost.
    """

    def __init__(
        self, message: str, *, missing: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.retry_after_s = retry_after_s
