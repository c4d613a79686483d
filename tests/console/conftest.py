"""The page in a real Chromium: one browser and one gateway for a module; the store is emptied."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.adapters.embedded.store import EmbeddedStore
from tests.console.visitor import Visitor, watch
from tests.harness import Koi, gateway, quick_sandbox

expect.set_options(timeout=30_000)
ROOT = "admin-0123456789"
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
"""The first draws the same page with a third of the CPU time: it has no windows of its own."""
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed after each module: its event loop would be in the way of asynchronous tests."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium-headless-shell)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def koi(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    data: Path = tmp_path_factory.mktemp("koi")
    with (
        quick_sandbox() as provider,
        gateway(provider, store.url, data, admin_key=ROOT, upstream_concurrency=1) as running,
    ):
        yield running


@pytest.fixture
def context(browser: Browser, koi: Koi) -> Iterator[BrowserContext]:
    """A browser without cookies, in English and light."""
    with contextlib.closing(
        browser.new_context(
            base_url=koi.url, locale="en-GB", color_scheme="light", reduced_motion="reduce"
        )
    ) as opened:
        opened.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.set_default_timeout(15_000)
        yield opened


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; in the end nothing may have gone wrong in it that the test did not expect."""
    opened = context.new_page()
    troubles = watch(opened)
    yield opened
    assert troubles == []


@pytest.fixture
def visitor(page: Page, koi: Koi) -> Visitor:
    return Visitor(page, koi)
