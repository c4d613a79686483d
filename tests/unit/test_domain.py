"""Values of the domain: money, calendar, catalog, limits, fingerprints."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.redis.scope_set import ScopeSet
from app.api.request_body import canonical_json
from app.domain.calendar import Calendar
from app.domain.catalog import CatalogError, parse_catalog
from app.domain.images import GenerationRequest, digest
from app.domain.limits import (
    LimitKind,
    LimitRaise,
    Limits,
    LimitSnapshot,
    LimitStatus,
    LimitWindow,
    Scope,
    ScopeKind,
)
from app.domain.money import format_micros, parse_micros
from app.domain.notices import NoticeKind, describe_notice

SHIPPED = Path("app/catalog.toml").read_text()

SMALL = """
default_model = "a"
[[models]]
name = "a"
modes = ["sync"]
sizes = ["1x1"]
qualities = ["standard", "hd"]
"""


@pytest.mark.parametrize(
    ("text", "micros"), [("0", 0), ("0.14", 140_000), ("12.5", 12_500_000), ("0.000001", 1)]
)
def test_money_is_read_exactly(text: str, micros: int) -> None:
    assert parse_micros(text) == micros


@pytest.mark.parametrize("text", ["-1", "0.0000001", "NaN", "Infinity", "1e999999", "a", ""])
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount of money"):
        parse_micros(text)


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0.00"), (140_000, "0.14"), (-1, "-0.000001"), (2_500_000, "2.50")]
)
def test_money_is_written_as_decimal_text(micros: int, text: str) -> None:
    assert format_micros(micros) == text


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-23", 24)]
)
def test_a_day_is_as_long_as_the_clock_on_the_wall_says(day: str, hours: int) -> None:
    calendar = Calendar(ZoneInfo("Europe/Berlin"))
    noon = datetime.fromisoformat(f"{day}T12:00:00+01:00")

    today = calendar.days_around(noon)[1]

    assert today.label == day
    assert today.ends_ms - today.starts_ms == hours * 3_600_000


def test_days_follow_each_other_without_a_gap_and_months_end_at_midnight() -> None:
    calendar = Calendar(ZoneInfo("Asia/Shanghai"))
    new_year = datetime(2026, 12, 31, 20, tzinfo=UTC)

    yesterday, today, tomorrow = calendar.days_around(new_year)

    assert [d.label for d in (yesterday, today, tomorrow)] == [
        "2026-12-31",
        "2027-01-01",
        "2027-01-02",
    ]
    assert yesterday.ends_ms == today.starts_ms
    assert yesterday.month_ends_ms == today.starts_ms
    assert timedelta(milliseconds=today.month_ends_ms - today.starts_ms) == timedelta(days=31)


def test_the_shipped_catalog_offers_only_what_the_provider_documents() -> None:
    catalog = parse_catalog(SHIPPED)

    (model,) = catalog.enabled
    assert model.name == "grok-imagine"
    assert model.sizes == ("1024x1024", "1536x1024", "1024x1536")
    assert model.qualities == ("standard", "hd")
    assert model.price("1024x1024", "hd") is None
    assert len(catalog.models) > 20


def test_the_most_specific_price_wins() -> None:
    text = SMALL + '[models.prices]\n"*" = "0.1"\nhd = "0.2"\n"hd/1x1" = "0.3"\n'

    model = parse_catalog(text).models[0]

    assert model.price("1x1", "standard") == 100_000
    assert model.price("1x1", "hd") == 300_000
    assert model.price("2x2", "hd") == 200_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "default_model"),
        (SMALL.replace('"a"\n[', '"b"\n['), "not an enabled model"),
        (SMALL + SMALL[SMALL.index("[[") :], "more than once"),
        (SMALL.replace('["sync"]', '["later"]'), "modes"),
        (SMALL + '[models.size_aliases]\nauto = "9x9"\n', "size_aliases"),
        (SMALL + "[models.prices]\nhd = 0.2\n", "must be text"),
        (SMALL + '[models.prices]\nhd = "-1"\n', "amount"),
    ],
)
def test_a_catalog_that_cannot_be_used_says_why(text: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        parse_catalog(text)


def test_limits_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="images_per_day"):
        Limits(images_per_day=-1)


def allowance(remaining: int, held: int = 0) -> LimitStatus:
    return LimitStatus(
        ScopeKind.USER,
        "ann",
        LimitKind.IMAGES,
        LimitWindow.DAY,
        10,
        10 - remaining - held,
        held,
        60,
    )


def test_the_tightest_allowance_speaks_for_all() -> None:
    standing = LimitSnapshot((allowance(4), allowance(2), allowance(7)))

    tightest = standing.tightest(LimitKind.IMAGES)

    assert tightest is not None
    assert tightest.remaining == 2
    assert standing.tightest(LimitKind.MONEY) is None


def test_a_settled_reservation_gives_back_what_was_not_delivered() -> None:
    standing = LimitSnapshot((allowance(4, held=3),))

    (after,) = standing.after_settlement(n=3, billed=1, unit_micros=None).statuses

    assert (after.held, after.remaining) == (0, 6)


@pytest.mark.parametrize("billed", [1, 3])
def test_the_tightest_limit_is_the_same_found_directly_or_among_all(billed: int) -> None:
    amounts = "2 280000 3 420000 9 1260000 3 420000 7000000 3 2500000 40"
    limits = Limits(20, 16, 10_000_000, 20_000_000, 60, 5, 30, 50)
    raised = LimitRaise(Limits(images_per_day=4), 99, "")
    scopes = (
        Scope(ScopeKind.KEY, "k", Limits()),
        Scope(ScopeKind.USER, "ann", limits, raised),
        Scope(ScopeKind.TEAM, "t", Limits(images_per_day=12, requests_per_minute=9)),
        Scope(ScopeKind.HOUSE, "house", Limits(images_per_day=5)),
    )
    direct = ScopeSet(scopes).snapshot(["600 86000", *[amounts] * 4])
    among_all = LimitSnapshot(direct.statuses)
    for kind in LimitKind:
        assert direct.tightest(kind) == among_all.tightest(kind)
        after, then = (s.after_settlement(3, billed, 140_000) for s in (direct, among_all))
        assert after.tightest(kind) == then.tightest(kind)
        assert after.statuses == then.statuses


def test_fingerprints_tell_tenants_and_every_sent_field_apart() -> None:
    asked = GenerationRequest("m", "p", 1, "1x1", "hd")
    others = [
        asked.fingerprint("user:b"),
        GenerationRequest("m2", "p", 1, "1x1", "hd").fingerprint("user:a"),
        GenerationRequest("m", "p2", 1, "1x1", "hd").fingerprint("user:a"),
        GenerationRequest("m", "p", 2, "1x1", "hd").fingerprint("user:a"),
        GenerationRequest("m", "p", 1, "2x2", "hd").fingerprint("user:a"),
        GenerationRequest("m", "p", 1, "1x1", "standard").fingerprint("user:a"),
    ]

    assert len({asked.fingerprint("user:a"), *others}) == 7


@given(st.lists(st.text() | st.integers() | st.none()))
def test_a_digest_is_that_of_the_parts_as_json(parts: list[str | int | None]) -> None:
    assert digest(*parts) == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_stored_digests_stay_what_they_are() -> None:
    request = GenerationRequest(
        "grok-imagine", "a \u2018koi\u2019 \n\U0001f41f", 2, "1024x1024", "hd", "x"
    )

    assert (
        digest("a", 1, None, '"')
        == "3076a5b05e9a7495557730f3d639d26c05b19fc7927995ac4276ec20b27667e4"
    )
    assert (
        request.fingerprint("team:art")
        == "37f5fedf151b629c2b91732cf5d2e731ae48f843e200835bfcae030ec9758349"
    )
    body = {"b": [1, {"z": 1.5, "a": None}], "a": '\u2018"'}
    assert canonical_json(body) == '{"a":"\\u2018\\"","b":[1,{"a":null,"z":1.5}]}'


def test_a_notice_of_a_refusal_names_a_further_provider_and_not_the_main_one() -> None:
    kind = NoticeKind.UPSTREAM_BREAKER_OPEN
    main = describe_notice(kind, "provider", {"code": "upstream_auth"})
    second = describe_notice(kind, "provider:second", {"code": "c", "provider": "second"})

    assert main.startswith("The provider refuses this gateway's key or balance (upstream_auth)")
    assert second.startswith("The provider second refuses this gateway's key or balance (c)")
