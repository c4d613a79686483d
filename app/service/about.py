"""What a log line is about: the job at work and the request that asked for it.

Work inherits it from whoever starts it, so one word at the root of a job's work is enough,
whichever process goes on with it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_ABOUT: ContextVar[Mapping[str, str] | None] = ContextVar("koi.about", default=None)


def about() -> Mapping[str, str]:
    """`task_id` and `request_id`, as far as they are known here."""
    return _ABOUT.get() or {}


def about_request(request_id: str) -> None:
    """For the rest of this asyncio task and what it starts."""
    _ABOUT.set({"request_id": request_id})


def about_task(job_id: str) -> None:
    """The same for the job that a request turned out to be about."""
    _ABOUT.set({**about(), "task_id": job_id})


@contextmanager
def about_job(job_id: str, request_id: str | None = None) -> Iterator[None]:
    """For the time of a block and what is started in it."""
    asked = {} if request_id is None else {"request_id": request_id}
    token = _ABOUT.set({**about(), "task_id": job_id, **asked})
    try:
        yield
    finally:
        _ABOUT.reset(token)
