"""The page is light: what a holder's browser loads, and how soon it can be used."""

import gzip

from playwright.sync_api import Page, Response, expect

from app.api.console import load_files
from tests.harness import Koi

MAX_PLAIN = 120_000
"""Everything a holder's page loads but pictures; uPlot is the operator's alone."""
MAX_PACKED = 50_000
MAX_REQUESTS = 40
MAX_READY_MS = 3_000
"""On a busy machine; 300 ms on a quiet one."""


def measure(page: Page) -> list[Response]:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    return answers


def test_the_holders_page_is_light(page: Page, koi: Koi) -> None:
    answers = measure(page)
    page.goto("/#/sign-in")
    page.get_by_label("Your API key").fill(koi.key("light"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("No limit")
    page.wait_for_load_state("networkidle")

    files = [answer for answer in answers if "/console/" in answer.url]
    bodies = {answer.url: answer.body() for answer in files}
    plain = sum(map(len, bodies.values()))
    packed = sum(len(gzip.compress(body)) for body in bodies.values())
    ready = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    print(f"{plain=} {packed=} requests={len(answers)} {ready=}")
    assert plain < MAX_PLAIN
    assert packed < MAX_PACKED
    assert len(answers) < MAX_REQUESTS
    assert ready < MAX_READY_MS
    assert not any("uplot" in url or "/operator/" in url for url in bodies)


def test_a_second_visit_loads_no_file_anew(page: Page) -> None:
    page.goto("/")
    page.wait_for_load_state("networkidle")
    answers = measure(page)
    page.reload()
    page.wait_for_load_state("networkidle")

    moved = [answer.url for answer in answers if answer.status == 200 and "/console/" in answer.url]
    fresh = [url for url in moved if url.endswith((".js", ".css"))]
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').reduce((sum, one) => sum + one.transferSize, 0)"
    )
    assert sizes < 20_000, fresh


def test_no_file_is_larger_than_it_must_be() -> None:
    own = {name: file for name, file in load_files().items() if not name.startswith("vendor/")}

    assert all(len(file.body) < 20_000 for file in own.values()), sorted(
        (len(file.body), name) for name, file in own.items()
    )[-3:]
