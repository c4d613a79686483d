"""What the provider can answer, whatever its dialect."""

from dataclasses import dataclass

from app.domain.images import ProviderImage
from app.domain.job import TaskStatus


@dataclass(frozen=True, slots=True)
class Running:
    """The provider works on it under its own id: any text that `names_a_task`.

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


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that holds places or a coming start at the provider, or waits for `calls` places."""

    job_id: str
    calls: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """How our traffic to the provider stands, for all processes together.

    `queued` jobs wait for one of the places of which `busy` are taken. `share` of the usual rate
    is asked for, less than 1 while the provider's 429s are remembered; nothing is for `pause_s`.
    `refused` is the code with which the provider keeps refusing our key or balance.
    """

    queued: int = 0
    busy: int = 0
    share: float = 1.0
    pause_s: float = 0.0
    refused: str | None = None


class PollTroubled(Exception):
    """A poll that says nothing about the task: network trouble, 5xx, 429. Ask again later.

    `missing` is true when the provider does not know the task: normal right after the submit
    (contract study, section 4), later a sign that it is lost. `empty`: the task is said to be
    completed and shows no image, which some providers mend a moment later. `throttled` is true when
    we asked too often.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: bool = False,
        empty: bool = False,
        throttled: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.empty = empty
        self.throttled = throttled
        self.retry_after_s = retry_after_s
