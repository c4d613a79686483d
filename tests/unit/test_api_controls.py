"""Request controls in headers: tolerant where a client may be sloppy, strict where money hangs."""

import pytest
from starlette.datastructures import Headers

from app.api.controls import cache_control, read_controls
from app.domain.recall import CacheControl


@pytest.mark.parametrize(
    ("values", "meaning"),
    [
        ([], CacheControl()),
        (["no-cache"], CacheControl(no_cache=True)),
        (["NO-STORE , max-age=5"], CacheControl(no_store=True, max_age_s=5)),
        (["max-age=0"], CacheControl(max_age_s=0)),
        (['max-age="60"'], CacheControl(max_age_s=60)),
        (["max-age=-1"], CacheControl()),
        (["max-age=99999999999"], CacheControl()),
        (["no-cache", "only-if-cached"], CacheControl(no_cache=True, only_if_cached=True)),
        (["private, x=1, ,=,"], CacheControl()),
    ],
    ids=str,
)
def test_cache_control_is_read_tolerantly(values: list[str], meaning: CacheControl) -> None:
    assert cache_control(values) == meaning


@pytest.mark.parametrize(
    ("count", "marked"),
    [("0", False), ("1", True), ("2", True), ("-1", False), ("x", False), ("", False)],
)
def test_a_retry_count_above_zero_marks_a_repeat(count: str, marked: bool) -> None:
    assert read_controls(Headers({"x-stainless-retry-count": count})).marked is marked


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 180),
        ({"x-stainless-read-timeout": "600"}, 180),
        ({"x-stainless-read-timeout": "60"}, 58),
        ({"x-stainless-timeout": "3"}, 1.5),
        ({"x-stainless-timeout": "3", "x-stainless-read-timeout": "60"}, 1.5),
        ({"x-stainless-timeout": "nan"}, 180),
        ({"x-stainless-timeout": "inf"}, 180),
        ({"x-stainless-timeout": "-5"}, 180),
        ({"x-stainless-timeout": "soon"}, 180),
    ],
    ids=str,
)
def test_the_wait_ends_before_the_clients_own_timeout(
    headers: dict[str, str], wait_s: float
) -> None:
    assert read_controls(Headers(headers)).wait_s(180) == wait_s


def test_silence_lasts_half_of_the_clients_patience_at_most() -> None:
    controls = read_controls(Headers({"x-stainless-timeout": "20"}))

    assert controls.quiet_s(45) == 10
    assert controls.quiet_s(5) == 5
