"""Which job and request a log event is about.

Asyncio tasks inherit it from the task that starts them, so it is set once where a job's work
begins, in whichever process that is.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar

_LOG_CONTEXT: ContextVar[tuple[str | None, str | None]] = ContextVar(
    "koi.about", default=(None, None)
)
"""The request and the job. No mapping, as each caller that waits would keep two of them."""


def log_context() -> Mapping[str, str]:
    """`task_id` and `request_id`, if they are known here."""
    request_id, job_id = _LOG_CONTEXT.get()
    if job_id is None:
        return {} if request_id is None else {"request_id": request_id}
    if request_id is None:
        return {"task_id": job_id}
    return {"request_id": request_id, "task_id": job_id}


def bind_request_id(request_id: str) -> None:
    """For the rest of this asyncio task and what it starts."""
    _LOG_CONTEXT.set((request_id, None))


def bind_task_id(job_id: str) -> None:
    """The same for the job that the request opened or joined."""
    _LOG_CONTEXT.set((_LOG_CONTEXT.get()[0], job_id))


def job_log_context(job_id: str, request_id: str | None = None) -> AbstractContextManager[None]:
    """For the duration of a block, and for what is started in it."""
    return _JobContext(job_id, request_id)


class _JobContext(AbstractContextManager[None]):
    def __init__(self, job_id: str, request_id: str | None) -> None:
        self._context = (request_id or _LOG_CONTEXT.get()[0], job_id)

    def __enter__(self) -> None:
        self._token = _LOG_CONTEXT.set(self._context)

    def __exit__(self, *_: object) -> None:
        _LOG_CONTEXT.reset(self._token)
