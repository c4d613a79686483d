"""The page while the store is away: it says so, signs nobody out, and comes back by itself."""

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.adapters.store_rig import Engine, running
from tests.console.visitor import Visitor
from tests.harness import Koi, gateway, quick_sandbox
from tests.store_node import programs

AWAY = "cannot reach its books right now"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running(next(iter(programs().values()))) as opened:
        yield opened


@pytest.fixture(scope="module")
def koi(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    with (
        quick_sandbox() as provider,
        gateway(
            provider, engine.url, tmp_path_factory.mktemp("koi"), redis_timeout_ms=500
        ) as opened,
    ):
        yield opened


def test_a_store_that_is_away_is_told_and_waited_for(
    visitor: Visitor, koi: Koi, engine: Engine
) -> None:
    visitor.sign_in(koi.key("ann"))
    page = visitor.page
    expect(page.get_by_role("heading", level=1)).to_contain_text("No limit")
    assert engine.process is not None
    engine.process.send_signal(signal.SIGSTOP)
    try:
        for title in ("Tasks", "Pictures", "Keys"):
            visitor.go(title)
            expect(page.get_by_role("alert").first).to_contain_text(AWAY, timeout=15_000)
        visitor.assert_accessible()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    finally:
        engine.process.send_signal(signal.SIGCONT)
    expect(page.get_by_role("row", name="this one")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)


def test_nobody_is_told_that_their_key_is_wrong_while_the_store_is_gone(
    visitor: Visitor, koi: Koi, engine: Engine
) -> None:
    secret = koi.key("bob")
    assert engine.process is not None
    engine.process.kill()
    engine.process.wait()
    page = visitor.page
    page.goto("/#/sign-in")
    page.get_by_label("Your API key").fill(secret)
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_contain_text(AWAY, timeout=15_000)
