"""The nearest size: by shape, then by area, then by the catalog's order, whatever is offered."""

from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.sizes import SizePreference, closest_size, parse_pixels, parse_resolution, ratio

GROK = ("1024x1024", "1536x1024", "1024x1536")
MANY = ("1024x1024", "2048x2048", "512x512", "1344x768", "768x1344")


@pytest.mark.parametrize(
    ("offered", "size", "found"),
    [
        (MANY, "600x600", "512x512"), (MANY, "1500x1500", "2048x2048"),
        (MANY, "1400x1400", "1024x1024"), (MANY, "4000x4000", "2048x2048"),
        (MANY, "1920x1080", "1344x768"), (MANY, "300x900", "768x1344"),
        (("1K", "2K", "4096x4096"), "800x600", "4096x4096"), (("1K", "2K"), "800x600", "1K"),
        (GROK, "1225x1000", "1536x1024"), (GROK, "1224x1000", "1024x1024"),
    ],
)  # fmt: skip
def test_shape_comes_first_and_area_second(offered: tuple[str, ...], size: str, found: str) -> None:
    wanted = parse_pixels(size)

    assert wanted is not None
    assert closest_size(offered, wanted, offered[0]) == found


def test_a_tie_goes_to_the_one_offered_first_in_whatever_order() -> None:
    for offered in permutations(("1000x500", "500x1000")):
        assert closest_size(offered, SizePreference(Fraction(1)), offered[0]) == offered[0]


def test_a_preference_that_is_not_given_is_the_default() -> None:
    assert (
        closest_size(MANY, SizePreference(area=Fraction(2048 * 2048)), "1024x1024") == "2048x2048"
    )
    assert closest_size(MANY, SizePreference(ratio=Fraction(1)), "512x512") == "512x512"
    assert (
        closest_size(("auto", *GROK), SizePreference(area=Fraction(10**6)), "auto") == "1024x1024"
    )


@given(st.integers(64, 16_384), st.integers(64, 16_384))
def test_any_size_in_bounds_finds_one_and_its_turned_self_the_turned_one(
    width: int, height: int
) -> None:
    one, turned = parse_pixels(f"{width}x{height}"), parse_pixels(f"{height}x{width}")

    assert one is not None
    assert turned is not None
    across, down = (closest_size(GROK, wanted, GROK[0]) for wanted in (one, turned))
    assert across == "x".join(reversed(down.split("x")))


@given(st.text(max_size=20))
def test_no_text_upsets_the_readers(text: str) -> None:
    parse_pixels(text), ratio(text), parse_resolution(text)
