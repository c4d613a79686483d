"""Names in a catalog: exact ones, patterns, prefixes, and the response formats they stand for."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.catalog import Catalog, CatalogError, parse_catalog
from app.domain.patterns import pattern_matches, patterns_overlap

TOP = 'default_model = "painter"\nname_prefixes = ["openai/", "azure/"]\n'


def model(name: str, more: str = "") -> str:
    return (
        f'[[models]]\nname = "{name}"\nmodes = ["sync"]\nsizes = ["1024x1024"]\n'
        f'qualities = ["standard"]\n{more}\n'
    )


def named(catalog: Catalog, name: str) -> str | None:
    found = catalog.resolve(name)
    return None if found is None else found.name


def test_exact_names_and_aliases_of_any_model_win_over_every_pattern() -> None:
    catalog = parse_catalog(
        TOP
        + model("painter", 'alias_patterns = ["gpt-image-*"]')
        + model("gpt-image-2", 'aliases = ["gpt-image-3"]')
        + model("gpt-image-4", "enabled = false")
    )

    assert named(catalog, "gpt-image-1") == "painter"
    assert named(catalog, "gpt-image-2") == "gpt-image-2"
    assert named(catalog, "gpt-image-3") == "gpt-image-2"
    assert named(catalog, "azure/gpt-image-3") == "gpt-image-2"
    assert named(catalog, "gpt-image-4") == "painter"
    assert named(catalog, "gpt-image-2-2026-04-21") == "painter"


def test_the_ledger_and_the_bill_know_no_patterns() -> None:
    catalog = parse_catalog(TOP + model("painter", 'alias_patterns = ["gpt-image-*"]'))

    assert catalog.find("gpt-image-2") is None
    assert catalog.find("openai/painter") is None
    assert named(catalog, "openai/painter") == "painter"


def test_a_catalog_from_before_patterns_answers_as_it_did() -> None:
    catalog = parse_catalog(
        'default_model = "painter"\n' + model("painter", 'aliases = ["gpt-image-1"]')
    )
    painter = catalog.models[0]

    assert named(catalog, "gpt-image-2") is None
    assert named(catalog, "openai/gpt-image-1") is None
    assert catalog.response_format("gpt-image-1", painter) == "b64_json"
    assert catalog.response_format("painter", painter) is None


def test_the_first_pattern_that_matches_says_the_response_format() -> None:
    table = '[models.response_formats]\n"gpt-image-2" = "both"\n"gpt-*" = "url"\n'
    catalog = parse_catalog(TOP + model("painter", 'alias_patterns = ["gpt-*"]\n' + table))
    painter = catalog.models[0]

    assert catalog.response_format("gpt-image-2", painter) == "both"
    assert catalog.response_format("openai/gpt-image-2", painter) == "both"
    assert catalog.response_format("gpt-image-1", painter) == "url"
    assert catalog.response_format("chatgpt-image-1", painter) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (model("painter", 'alias_patterns = ["gpt-image-*"]')
         + model("other", 'alias_patterns = ["gpt-*"]'), "match the same names"),
        (model("painter", 'alias_patterns = ["*-image"]')
         + model("other", 'alias_patterns = ["grok-*"]'), "'\\*-image' of painter and 'grok-\\*'"),
        (model("painter", 'alias_patterns = "gpt-*"'), "alias_patterns must be a list"),
        (model("painter", "alias_patterns = [7]"), "alias_patterns must be a list"),
        (model("painter", 'alias_patterns = [""]'), "pattern ''"),
        (model("painter", 'alias_patterns = ["gpt-image-?"]'), "with \\* for anything"),
        (model("painter", 'alias_patterns = ["a b"]'), "with \\* for anything"),
        (model("painter", '[models.response_formats]\n"gpt-*" = "png"'), "url, b64_json, both"),
        (model("painter", '[models.response_formats]\n"g t" = "url"'), "with \\* for anything"),
    ],
)  # fmt: skip
def test_a_catalog_whose_names_cannot_be_used_says_why(text: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        parse_catalog(TOP + text)


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(CatalogError, match="name_prefixes"):
        parse_catalog(TOP.replace('"azure/"', '""') + model("painter"))


def test_patterns_of_a_model_that_is_off_are_in_nobodys_way() -> None:
    parse_catalog(
        TOP
        + model("painter", 'alias_patterns = ["gpt-*"]')
        + model("other", 'alias_patterns = ["gpt-*"]\nenabled = false')
    )


PATTERNS = st.text("ab*", min_size=1, max_size=5)
TEXTS = st.text("ab", max_size=6)


@given(PATTERNS, TEXTS)
def test_a_pattern_matches_what_the_same_expression_matches(pattern: str, name: str) -> None:
    assert pattern_matches(pattern, name) == bool(re.fullmatch(pattern.replace("*", "[ab]*"), name))


@given(PATTERNS, PATTERNS, TEXTS)
def test_patterns_that_match_one_name_overlap(a: str, b: str, name: str) -> None:
    assert patterns_overlap(a, b) == patterns_overlap(b, a)
    if pattern_matches(a, name) and pattern_matches(b, name):
        assert patterns_overlap(a, b)


@given(PATTERNS, PATTERNS)
def test_patterns_that_overlap_have_a_name_in_common(a: str, b: str) -> None:
    longest = len(a.replace("*", "")) + len(b.replace("*", ""))
    names = ("".join(word) for size in range(longest + 1) for word in product("ab", repeat=size))

    assert patterns_overlap(a, b) == any(
        pattern_matches(a, name) and pattern_matches(b, name) for name in names
    )
