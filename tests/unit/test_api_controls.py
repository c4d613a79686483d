"""Request controls in headers: tolerant where a client may be sloppy, strict where money hangs."""

import pytest
from starlette.datastructures import Headers

from app.api.request_headers import parse_cache_control, parse_request_headers
from app.api.settings import EdgeSettings
from app.domain.cache import CacheControl

SILENT = EdgeSettings(sync_wait_s=180)


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
    assert parse_cache_control(values) == meaning


@pytest.mark.parametrize(
    ("count", "marked"),
    [("0", False), ("1", True), ("2", True), ("-1", False), ("x", False), ("", False)],
)
def test_a_retry_count_above_zero_marks_a_repeat(count: str, marked: bool) -> None:
    assert parse_request_headers(Headers({"x-stainless-retry-count": count})).is_sdk_retry is marked


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
    assert parse_request_headers(Headers(headers)).plan_wait(SILENT).wait_s == wait_s


def test_silence_lasts_half_of_the_clients_patience_at_most() -> None:
    request_headers = parse_request_headers(Headers({"x-stainless-timeout": "20"}))

    assert request_headers.plan_wait(EdgeSettings(heartbeat_after_s=45)).silence_s == 10
    assert request_headers.plan_wait(EdgeSettings(heartbeat_after_s=5)).silence_s == 5


@pytest.mark.parametrize(
    ("announced", "operator", "wait_s", "heartbeat_interval_s"),
    [
        (None, None, 600, 10),
        ("600", None, 600, 10),
        ("1800", None, 1800, 10),
        ("0.5", None, 600, 0.25),
        ("8", None, 600, 4),
        ("0.000001", None, 600, 0.1),
        ("1800", 120, 120, 10),
        (None, 120, 120, 10),
    ],
)
def test_a_wait_kept_alive_lasts_as_long_as_the_client_announced_or_600_s(
    announced: str | None, operator: float | None, wait_s: float, heartbeat_interval_s: float
) -> None:
    headers = Headers({} if announced is None else {"x-stainless-read-timeout": announced})
    settings = EdgeSettings(heartbeat_after_s=45, sync_wait_s=operator)

    patience = parse_request_headers(headers).plan_wait(settings)

    assert (patience.wait_s, patience.heartbeat_interval_s) == (wait_s, heartbeat_interval_s)
    assert patience.silence_s == min(45, float(announced or 600) / 2)
