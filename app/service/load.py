"""What one process carries, so that it can refuse more before it breaks down."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.service.drain import Drain, job_name


class Load:
    """Requests being admitted, callers waiting for a job wherever it runs, and jobs running here
    that nobody waits for. `most` is how many may be carried at once."""

    def __init__(self, drain: Drain, most: int) -> None:
        self._drain, self._most = drain, most
        self._callers = 0
        self._waiting: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        return self._callers + self._drain.unattended >= self._most

    @contextmanager
    def starting(self) -> Iterator[None]:
        self._callers += 1
        try:
            yield
        finally:
            self._callers -= 1

    @contextmanager
    def waiting(self, job_id: str) -> Iterator[None]:
        self._waiting[job_id] += 1
        self._drain.attend(job_name(job_id))
        try:
            with self.starting():
                yield
        finally:
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._drain.leave_alone(job_name(job_id))
