"""A circuit breaker: after some failures in a row, stop asking and probe once in a while."""

import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """`allows` before each exchange, `record_success` or `record_failure` after it.

    Open, it permits one exchange every `probe_s` seconds (half-open) and refuses the rest.
    `on_state` is called once for each change of state.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        probe_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
        on_state: Callable[[BreakerState], None] = lambda _: None,
    ) -> None:
        self.state = BreakerState.CLOSED
        self.on_state = on_state
        self._threshold, self._probe_s, self._now = threshold, probe_s, now
        self._failures = 0
        self._next_probe = 0.0

    def allows(self) -> bool:
        if self.state is BreakerState.CLOSED:
            return True
        now = self._now()
        if now < self._next_probe:
            return False
        self._next_probe = now + self._probe_s
        self._set_state(BreakerState.HALF_OPEN)
        return True

    def record_success(self) -> None:
        self._failures = 0
        self._set_state(BreakerState.CLOSED)

    def record_failure(self) -> None:
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._threshold:
            if self.state is BreakerState.CLOSED:
                self._next_probe = self._now() + self._probe_s
            self._set_state(BreakerState.OPEN)

    def _set_state(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.on_state(state)
