"""Sign-in by an OpenID provider in a real browser: there, back, and out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.adapters.embedded.store import EmbeddedStore
from tests.harness import Koi, gateway, quick_sandbox
from tests.oidc import Provider, open_provider, settings_for


@pytest.fixture(scope="module")
def identity() -> Iterator[Provider]:
    with open_provider() as running:
        yield running


@pytest.fixture(scope="module")
def koi(
    store: EmbeddedStore, identity: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Koi]:
    data: Path = tmp_path_factory.mktemp("koi")
    with (
        quick_sandbox() as provider,
        gateway(provider, store.url, data, **settings_for(identity)) as running,
    ):
        yield running


def test_a_member_signs_in_and_out_by_the_provider(
    browser: Browser, koi: Koi, identity: Provider
) -> None:
    identity.reset(email="ann@corp.example", groups=["designers"])
    context = browser.new_context(base_url=koi.url, locale="en-GB")
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name="Sign in with your organisation").click()

    expect(page.get_by_text("ann@corp.example").first).to_be_visible(timeout=20_000)
    page.reload()
    expect(page.get_by_text("ann@corp.example").first).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in with your organisation")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Sign in with your organisation")).to_be_visible()

    identity.reset(email="ann@corp.example")
    page.get_by_role("link", name="Sign in with your organisation").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Your account has no role here. Ask the operator."
    )
    identity.reset(email="olga@corp.example", groups=["ops"])
    page.get_by_role("link", name="Sign in with your organisation").click()
    expect(page.get_by_text("olga@corp.example").first).to_be_visible(timeout=20_000)
    expect(page.get_by_role("link", name="People")).to_be_visible(timeout=20_000)
    context.close()
