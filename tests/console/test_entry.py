"""The way in and out: the public page, sign-in, sign-out, expiry, language and colours."""

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from app.api.console import load_files
from tests.console.conftest import ROOT
from tests.console.visitor import Visitor
from tests.harness import Koi

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_gets_the_page_and_a_program_a_pointer(koi: Koi) -> None:
    page = httpx.get(koi.url, headers=HTML)
    told = httpx.get(koi.url, headers={"accept": "*/*"})

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert told.json() == {
        "object": "koi",
        "base_url": koi.v1,
        "documentation": f"{koi.url}/docs",
        "schema": f"{koi.url}/openapi.json",
    }
    assert page.headers["vary"] == told.headers["vary"] == "accept"


def test_a_file_has_its_type_and_comes_once(koi: Koi) -> None:
    for name, media_type in (
        ("main.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("koi.svg", "image/svg+xml"),
        ("vendor/preact.js", "text/javascript; charset=utf-8"),
        ("vendor/htm.LICENSE.txt", "text/plain; charset=utf-8"),
    ):
        first = httpx.get(f"{koi.url}/console/{name}")
        again = httpx.get(
            f"{koi.url}/console/{name}", headers={"if-none-match": first.headers["etag"]}
        )
        assert (first.status_code, first.headers["content-type"]) == (200, media_type)
        assert first.headers["x-content-type-options"] == "nosniff"
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["", "__init__.py", "shell.html", "../main.py", "%2e%2e/main.py", "vendor/vendor.json"]
)
def test_no_other_file_is_sent(koi: Koi, name: str) -> None:
    assert httpx.get(f"{koi.url}/console/{name}").status_code == 404
    assert all(not file.endswith((".py", ".html")) for file in load_files())


def test_the_public_page_says_what_this_is(visitor: Visitor, koi: Koi) -> None:
    page = visitor.page
    page.goto("/")

    expect(page.get_by_text(koi.v1)).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == koi.v1
    visitor.assert_accessible()
    page.get_by_role("link", name="I have a key").click()
    expect(page.get_by_label("Your API key")).to_be_focused()
    visitor.assert_accessible()


def test_a_holder_signs_in_and_out(visitor: Visitor, koi: Koi, context: BrowserContext) -> None:
    visitor.sign_in(koi.key("ann"))

    page = visitor.page
    expect(page.get_by_text("ann", exact=True)).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.get_by_text("ann", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="I have a key")).to_be_visible()
    assert context.cookies() == []


def test_an_operator_signs_in_with_the_admin_key(visitor: Visitor) -> None:
    visitor.sign_in(ROOT, "operator")

    expect(visitor.page.get_by_text("operator", exact=True)).to_be_visible()


def test_a_wrong_key_is_told_in_words(visitor: Visitor) -> None:
    page = visitor.page
    page.goto("/#/sign-in")
    page.get_by_label("Your API key").fill("sk-koi-wrong")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_contain_text("not known here")
    visitor.assert_accessible()


def test_an_ended_session_says_so_and_asks_for_the_key(
    visitor: Visitor, koi: Koi, context: BrowserContext
) -> None:
    visitor.sign_in(koi.key("ann"))
    visitor.page.goto("about:blank")  # or the open page notices by itself, before it is loaded anew
    context.clear_cookies()
    visitor.page.goto("/")

    expect(visitor.page.get_by_role("status")).to_contain_text("session has ended")
    expect(visitor.page.get_by_label("Your API key")).to_be_visible()


def test_the_language_follows_the_browser_and_can_be_changed(visitor: Visitor) -> None:
    page = visitor.page
    page.goto("/")
    page.get_by_role("button", name="中文").click()

    expect(page.get_by_role("link", name="我有密钥")).to_be_visible()
    assert page.get_attribute("html", "lang") == "zh"
    visitor.assert_accessible()
    page.reload()
    expect(page.get_by_role("link", name="我有密钥")).to_be_visible()


def test_colours_follow_the_system_and_can_be_changed(page: Page) -> None:
    page.goto("/")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark").click()

    assert light != dark
    assert page.evaluate(paper) == dark
    page.reload()
    assert page.evaluate(paper) == dark


def test_a_phone_shows_everything_without_scrolling_sideways(visitor: Visitor, koi: Koi) -> None:
    page = visitor.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    expect(page.get_by_role("link", name="I operate this")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
