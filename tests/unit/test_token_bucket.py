"""Token buckets: what a key may send in a second, whatever the setting."""

import pytest

from app.service.caller_limits import BURST_S, TokenBuckets


class Clock:
    """A time that the test tells."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("tokens", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("per_s", [0.01, 0.4, 0.5, 1.0, 2.0, 2.5, 50.0])
def test_whoever_waits_as_told_is_served_at_any_setting(per_s: float, tokens: float) -> None:
    clock = Clock()
    buckets = TokenBuckets(per_s, BURST_S, clock)

    for _ in range(20):
        if wait_s := buckets.take("key", tokens):
            clock.now_s += wait_s + 1e-6
            assert buckets.take("key", tokens) == 0.0


@pytest.mark.parametrize(("per_s", "tokens"), [(0.4, 1.0), (2.0, 5.0)])
def test_what_costs_more_than_the_store_holds_keeps_the_rate_all_the_same(
    per_s: float, tokens: float
) -> None:
    clock = Clock()
    buckets = TokenBuckets(per_s, BURST_S, clock)

    assert buckets.take("key", tokens) == 0.0
    assert buckets.take("key", tokens) == pytest.approx(tokens / per_s)


def test_a_quiet_key_may_send_two_seconds_of_requests_at_once() -> None:
    buckets = TokenBuckets(5.0, BURST_S, Clock())

    assert [bool(buckets.take("key")) for _ in range(11)] == [False] * 10 + [True]
