"""The whole of it, as a newcomer sees it: from `koi demo` to the end of a quota and its story."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.test_weight import measure
from tests.console.visitor import watch
from tests.flow.command import KOI
from tests.ports import free_port

READY = "Serving until Ctrl-C"
ADDRESS = re.compile(r"In a browser: (\S+)/\n")
HOLDER_KEY = re.compile(r'"I have a key" +(\S+)')
ADMIN_KEY = re.compile(r'"I operate this" +(\S+)')
NOTE_KEY = re.compile(r"api_key +(sk-koi-\S+)")


@dataclass(frozen=True)
class Demo:
    """A running `koi demo`, as far as it says itself."""

    url: str
    holder_key: str
    admin_key: str


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    port = free_port()
    clean = {name: text for name, text in os.environ.items() if not name.startswith("KOI_")}
    process = subprocess.Popen(
        [*KOI, "demo"],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(Path.cwd()), "KOI_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if READY in line:
                break
        found = [pattern.search(said) for pattern in (ADDRESS, HOLDER_KEY, ADMIN_KEY)]
        running = Demo(*(match[1] for match in found if match is not None))
        assert running.url == f"http://127.0.0.1:{port}", "KOI_PORT is honoured"
        yield running
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    context = browser.new_context(base_url=demo.url, locale="en-GB", reduced_motion="reduce")
    context.set_default_timeout(20_000)
    opened = context.new_page()
    troubles = watch(opened)
    yield opened
    assert troubles == []
    context.close()


def sign_in(page: Page, way: str, label: str, key: str) -> None:
    page.get_by_role("link", name=way).click()
    page.get_by_label(label).fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="I have a key")).to_be_visible()


def go(page: Page, title: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()


def welcome(page: Page) -> str:
    """Make a team, a user and a key; the key of the welcome note."""
    go(page, "People")
    page.get_by_role("button", name="Add a person").click()
    form = page.get_by_role("dialog")
    form.get_by_label("User name").fill("ann")
    form.get_by_label("Team").fill("design")
    form.get_by_label("Limits of their own").check()
    form.get_by_label("Images a day").fill("1")
    form.get_by_role("button", name="Add a person").click()
    key = NOTE_KEY.search(form.locator("pre").inner_text())
    assert key is not None
    form.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name="design")).to_be_visible()
    return key[1]


def make(page: Page, prompt: str) -> None:
    go(page, "Try it")
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Make it").click()


def test_a_newcomer_s_first_hour_from_the_demo_to_the_audit_log(page: Page, demo: Demo) -> None:
    page.goto("/")
    sign_in(page, "I operate this", "Admin key", demo.admin_key)
    key = welcome(page)
    sign_out(page)

    sign_in(page, "I have a key", "Your API key", key)
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 of 1 images left today")
    make(page, "a koi in a nebula")
    expect(page.get_by_text("1 picture was made; 1 image was charged.")).to_be_visible()
    go(page, "Pictures")
    expect(page.locator(".gallery img")).to_have_count(1)

    make(page, "one koi too many")
    refusal = "Image quota of user ann for this day exceeded: limit 1, used 1"
    expect(page.get_by_role("alert")).to_contain_text(refusal)
    go(page, "What is left")
    expect(page.get_by_role("heading", level=1)).to_contain_text("0 of 1 images left today")
    expect(page.get_by_text("Nothing is left of it.")).to_be_visible()
    sign_out(page)

    sign_in(page, "I operate this", "Admin key", demo.admin_key)
    page.goto("/#/jobs/users=ann")
    jobs = page.get_by_role("link", name=re.compile("^task_"))
    expect(jobs).to_have_count(1)
    jobs.click()
    timeline = page.locator(".timeline")
    for event in ("Accepted", "Reserved", "Sent to the provider", "Settled"):
        expect(timeline.get_by_text(event, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="ann")).to_be_visible()
    go(page, "Changes")
    log = page.get_by_role("table", name="Changes")
    for kind in ("team.created", "user.created", "key.created"):
        expect(log.get_by_text(kind).first).to_be_visible()
    expect(log).to_contain_text("images_per_day: none → 1")


@pytest.mark.parametrize(
    ("way", "label", "heading"),
    [("sign-in", "Your API key", "No limit of yours"), ("operator", "Admin key", "Now")],
    ids=["holder", "operator"],
)
def test_the_page_of_the_demo_is_there_at_once(
    page: Page, demo: Demo, way: str, label: str, heading: str
) -> None:
    """Prints what README says: weight, requests, and how soon a key can be typed."""
    answers = measure(page)
    began = time.monotonic()
    page.goto(f"/#/{way}")
    expect(page.get_by_label(label)).to_be_editable()
    usable_ms = round((time.monotonic() - began) * 1000)
    interactive_ms = round(
        page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    )
    key = demo.admin_key if way == "operator" else demo.holder_key
    page.get_by_label(label).fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
    page.wait_for_load_state("networkidle")
    files = [answer for answer in answers if "/console/" in answer.url]
    plain = sum(len(answer.body()) for answer in files)
    print(
        f"\n{way}: {plain:,} bytes in {len(answers)} requests, DOM interactive after "
        f"{interactive_ms} ms, a key can be typed after {usable_ms} ms"
    )
    assert len(answers) < 60
    assert usable_ms < 10_000
