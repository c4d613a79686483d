"""Whatever number a setting takes, the gateway works with it."""

from collections.abc import Callable
from typing import Any, get_args

from app.settings import Settings
from app.settings_validation import MAX_BY_UNIT, MAX_COUNT
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

OF_THE_TEST = {"port", "workers", "redis_replicas", "upstream_poll_interval_s"}
"""What says where the gateway is, or would wait for replicas and polls that never come."""


def biggest_numbers() -> dict[str, float]:
    """The settings that are numbers, as big as they may be."""
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if name not in OF_THE_TEST and {int, float} & {
            field.annotation,
            *get_args(field.annotation),
        }:
            bounds = (getattr(rule, "le", None) for rule in field.metadata)
            unit = name.rpartition("_")[2]
            found[name] = next(filter(None, bounds), MAX_BY_UNIT.get(unit, MAX_COUNT))
    return found


def test_a_gateway_whose_numbers_are_all_as_big_as_they_may_be_works(
    start: Callable[..., Koi],
) -> None:
    koi = start(**biggest_numbers())

    with koi.client(koi.key()) as client:
        for prompt, more in (
            ("one", {}),
            ("one", {}),
            ("two", {"n": 2}),
            ("later", {"async": True}),
        ):
            answer = client.post(GENERATE, json={**KOI, **more, "prompt": prompt})
            assert answer.status_code == 200, answer.text
