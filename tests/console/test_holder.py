"""The holder's page: each screen, on a store with pictures, limits and failures."""

import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from app.domain.limits import Limits
from app.wiring.operator import OperatorContext
from tests.console.visitor import Visitor
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

HOSTILE = "<img src=x onerror=alert(1)>\"'`--></script><script>alert(2)</script>\u202e ${1} 锦鲤"
SCREENS = ("What is left", "Pictures", "Tasks", "Try it", "Keys")


def limit_user(koi: Koi, name: str, limits: Limits) -> None:
    async def change(operator: OperatorContext) -> None:
        user = await operator.keys.user(name)
        await operator.keys.change(user, replace(user, limits=limits))

    koi.operate(change)


def draw(koi: Koi, key: str, prompt: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    body = {**KOI, "prompt": prompt, **more}
    return httpx.post(f"{koi.url}{GENERATE}", json=body, headers=headers, timeout=20)


@pytest.fixture(scope="module")
def key(koi: Koi) -> str:
    """Of a user with a few pictures, one refused prompt, and 50 images a day."""
    secret = koi.key("ann", name="laptop")
    limit_user(koi, "ann", Limits(images_per_day=50))
    for number in range(3):
        assert draw(koi, secret, f"koi number {number}", n=4).status_code == 200
    koi.sandbox.script("moderation-400")
    assert draw(koi, secret, "something refused").status_code == 400
    return secret


@pytest.fixture
def ann(visitor: Visitor, key: str) -> Visitor:
    visitor.sign_in(key)
    return visitor


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def test_the_first_screen_says_what_is_left_in_words(ann: Visitor) -> None:
    expect(heading(ann.page)).to_have_text(
        re.compile(r"\d+ of 50 images left today, resets 00:00 UTC")
    )
    expect(ann.page.get_by_text("This one binds first")).to_be_visible()
    assert "whole gateway" not in ann.page.inner_text("main")


def test_a_limit_that_is_raised_for_a_while_says_how_much_and_until_when(
    visitor: Visitor, koi: Koi
) -> None:
    secret = koi.key("rae")
    limit_user(koi, "rae", Limits(images_per_day=5))

    async def grant(operator: OperatorContext) -> None:
        user = await operator.keys.user("rae")
        more = Limits(images_per_day=50)
        await operator.changing("a deadline").raise_limits(user, more, "2h", UTC)

    koi.operate(grant)
    visitor.sign_in(secret)

    page = visitor.page
    expect(heading(page)).to_contain_text("55 of 55 images left today")
    expect(
        page.get_by_text(re.compile(r"Raised for a while: \+50 until \d\d:\d\d UTC"))
    ).to_be_visible()
    expect(page.get_by_role("row", name="you images today")).to_contain_text("+50 until")


@pytest.mark.parametrize("title", SCREENS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_screen_is_accessible(ann: Visitor, title: str, dark: bool) -> None:
    if dark:
        ann.page.get_by_role("button", name="Dark").click()
    ann.go(title)
    settle(ann.page)

    ann.assert_accessible()


def settle(page: Page) -> None:
    """Until what a screen loads is there."""
    page.wait_for_load_state("networkidle")
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)


def test_every_screen_fits_a_phone(ann: Visitor) -> None:
    ann.page.set_viewport_size({"width": 360, "height": 740})
    for title in SCREENS:
        ann.go(title)
        settle(ann.page)
        width = ann.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, title


def test_every_screen_speaks_chinese(ann: Visitor) -> None:
    ann.page.get_by_role("button", name="中文").click()
    for title in ("剩余额度", "图片", "任务", "试用", "密钥"):
        ann.page.get_by_role("navigation").get_by_role("link", name=title).click()
        settle(ann.page)
        text = ann.page.inner_text("main")
        assert re.search("[\u4e00-\u9fff]", text), title
        assert not re.search(r"\b(home|pictures|tasks|try|keys|limit|meter)\.\w+", text), title
    ann.page.get_by_role("navigation").get_by_role("link", name="任务").click()
    expect(ann.page.get_by_text("上游拒绝了该提示词；未产生费用。")).to_be_visible()


def test_pictures_are_shown_downloaded_and_deleted(ann: Visitor, koi: Koi) -> None:
    page = ann.page
    ann.go("Pictures")
    tiles = page.locator(".gallery li")
    expect(tiles).to_have_count(12)
    tiles.first.get_by_role("link").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img")).to_be_visible()
    assert page.evaluate("document.querySelector('.full img').naturalWidth") > 0
    expect(dialog.get_by_text("0.14")).to_be_visible()
    ann.assert_accessible()
    with page.expect_download() as saved:
        dialog.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename.startswith("img_")
    dialog.get_by_role("button", name="Copy fresh link").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert httpx.get(link).status_code == 200
    dialog.get_by_role("button", name="Delete").click()
    dialog.get_by_role("alert").get_by_role("button", name="Delete").click()
    expect(tiles).to_have_count(11)
    expect(dialog).to_have_count(0)
    assert httpx.get(link).status_code == 404


def test_a_selection_comes_as_a_zip(ann: Visitor) -> None:
    page = ann.page
    ann.go("Pictures")
    boxes = page.locator(".gallery").get_by_role("checkbox")
    for number in range(3):
        boxes.nth(number).check()
    expect(page.get_by_text("3 selected")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download as zip").click()
    with zipfile.ZipFile(io.BytesIO(saved.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 3
        assert all(len(archive.read(name)) > 100 for name in archive.namelist())


def test_tasks_say_what_became_of_them(ann: Visitor) -> None:
    ann.go("Tasks")

    refused = ann.page.get_by_text("The provider refused the prompt; nothing was charged.")
    expect(refused).to_be_visible()
    ann.page.get_by_label("Show").select_option("completed")
    expect(refused).to_have_count(0)
    expect(ann.page.get_by_text("4 pictures were made; 4 images were charged.")).to_have_count(3)


def test_a_waiting_task_is_shown_live_and_can_be_cancelled(
    ann: Visitor, koi: Koi, key: str
) -> None:
    koi.sandbox.set(latency_s=5)
    try:
        made = [draw(koi, key, f"slow {n}", **{"async": True}).json()["id"] for n in range(3)]
        ann.go("Tasks")
        rows = ann.page.get_by_role("row").filter(has_text="It waits to be sent")
        expect(rows.first).to_be_visible()
        rows.last.get_by_role("button", name="Cancel").click()
        expect(ann.page.get_by_text("It was cancelled before it was sent")).to_be_visible()
        assert made
    finally:
        koi.sandbox.set(latency_s=0)
    expect(ann.page.get_by_text("It waits to be sent")).to_have_count(0, timeout=30_000)
    expect(ann.page.locator(".tag.busy")).to_have_count(0, timeout=30_000)


def test_a_picture_is_made_here_with_its_price_and_program(ann: Visitor, koi: Koi) -> None:
    page, billed = ann.page, koi.sandbox.billed_images
    ann.go("Try it")
    page.get_by_label("Prompt").fill('it\'s a "koi"\nat night')
    page.get_by_label("Images").fill("2")
    expect(page.get_by_text("This costs 0.28 CNY")).to_be_visible()
    program = page.locator("pre code")
    expect(program).to_contain_text("it'\\''s a \\\"koi\\\"\\nat night")
    page.get_by_role("button", name="Python").click()
    expect(program).to_contain_text("n=2")
    make = page.get_by_role("button", name="Make it")
    make.dblclick()
    expect(page.locator(".results img")).to_have_count(2)
    expect(page.get_by_text("2 pictures were made; 2 images were charged.")).to_be_visible()
    assert koi.sandbox.billed_images == billed + 2
    ann.assert_accessible()


def test_a_broken_connection_buys_nothing_twice(ann: Visitor, koi: Koi) -> None:
    page, billed = ann.page, koi.sandbox.billed_images
    ann.go("Try it")
    page.get_by_label("Prompt").fill("a koi behind a broken wire")

    def break_after(route: Any) -> None:
        # The gateway got it, and its answer is lost.
        route.fetch()
        route.abort()

    page.route("**/v1/images/generations", break_after, times=1)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".results img")).to_have_count(1)
    assert koi.sandbox.billed_images == billed + 1


def test_a_hostile_prompt_is_only_text(ann: Visitor, koi: Koi) -> None:
    page = ann.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    ann.go("Try it")
    page.get_by_label("Prompt").fill(HOSTILE)
    for language in ("curl", "Python", "Node"):
        page.get_by_role("button", name=language).click()
        expect(page.locator("pre code")).to_contain_text("onerror=alert(1)")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".results img")).to_have_count(1)
    for title in ("Pictures", "Tasks"):
        ann.go(title)
        settle(page)
    page.locator("tbody").first.wait_for()
    assert page.locator("img[src=x]").count() == 0
    assert dialogs == []


def test_a_spent_budget_leaves_everything_else_working(visitor: Visitor, koi: Koi) -> None:
    secret = koi.key("spent")
    limit_user(koi, "spent", Limits(images_per_day=1))
    assert draw(koi, secret, "the last one").status_code == 200
    visitor.sign_in(secret)
    page = visitor.page
    expect(heading(page)).to_contain_text("0 of 1 images left today")
    expect(page.get_by_text("Nothing is left of it")).to_be_visible()
    visitor.go("Pictures")
    expect(page.locator(".gallery li")).to_have_count(1)
    visitor.go("Try it")
    page.get_by_label("Prompt").fill("one too many")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("alert")).to_contain_text("limit")
    visitor.assert_accessible()


def test_asking_for_more_says_honestly_who_hears_it(ann: Visitor) -> None:
    page = ann.page
    page.get_by_role("button", name="Ask for more").click()
    page.get_by_label("What do you need").fill("A campaign until Friday")
    page.get_by_label("Images a day").fill("100")
    ann.assert_accessible()
    page.get_by_role("button", name="Send to the operator").click()
    expect(page.get_by_role("status")).to_contain_text("sends no messages to its operator")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_key_is_replaced_and_the_session_goes_on(visitor: Visitor, koi: Koi) -> None:
    visitor.sign_in(koi.key("rob", name="phone"))
    page = visitor.page
    visitor.go("Keys")
    page.get_by_role("row", name="this one").get_by_role("button", name="Replace").click()
    page.get_by_label("The old one still works").fill("0")
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    secret = page.get_by_role("dialog").get_by_text("sk-koi-").inner_text()
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.get(f"{koi.v1}/usage", headers=headers).json()["user"] == "rob"
    visitor.assert_accessible()
    page.get_by_role("button", name="I have copied it").click()
    expect(page.get_by_role("row", name="this one")).to_be_visible()


def test_every_screen_says_the_same_as_a_call_with_ones_own_key(ann: Visitor, koi: Koi) -> None:
    page = ann.page
    for title, path in (
        ("What is left", "usage"),
        ("Pictures", "koi/pictures"),
        ("Tasks", "tasks"),
        ("Keys", "koi/keys"),
    ):
        ann.go(title)
        page.get_by_text("On the command line").click()
        call = f"curl -H \"Authorization: Bearer $KOI_API_KEY\" '{koi.v1}/{path}'"
        expect(page.get_by_text(call)).to_be_visible()
    page.get_by_role("button", name="Revoke").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("On the command line").click()
    expect(dialog.get_by_text("curl -X DELETE -H")).to_be_visible()
    expect(dialog.get_by_text(f"'{koi.v1}/koi/keys/key_")).to_be_visible()
    page.keyboard.press("Escape")


def test_the_page_works_by_keyboard_alone(page: Page, koi: Koi, key: str) -> None:
    page.goto("/")
    press_until(page, "I have a key")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(heading(page)).to_contain_text("left today")
    press_until(page, "Pictures")
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Pictures")
    page.locator(".gallery a").first.wait_for()
    press_until(page, "Picture of", attribute="aria-label")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def press_until(page: Page, name: str, attribute: str = "innerText") -> None:
    """Press Tab until something of that name has the focus."""
    read = f"document.activeElement?.{attribute} ?? ''"
    if attribute != "innerText":
        read = f"document.activeElement?.getAttribute('{attribute}') ?? ''"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(read).strip().startswith(name):
            return
    raise AssertionError(f"nothing called {name!r} was reached")


def test_ten_thousand_tasks_come_in_pages(ann: Visitor) -> None:
    """Whatever the store holds, the page asks for twenty at a time and keeps its place."""
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        first = 0 if "after" not in route.request.url else int(route.request.url[-5:]) + 1
        tasks = [
            {"id": f"task_{n:05}", "status": "completed", "summary": f"{HOSTILE} {n}",
             "model": "模型 <i>ñ</i>", "created": 1_795_000_000 - n, "progress": 100}
            for n in range(first, first + 20)
        ]  # fmt: skip
        route.fulfill(json={"data": tasks, "has_more": True, "last_id": tasks[-1]["id"]})

    ann.page.route(re.compile(r"/v1/tasks\?"), answer)
    ann.go("Tasks")
    rows = ann.page.locator("tbody tr")
    expect(rows).to_have_count(20)
    for pages in (2, 3):
        ann.page.get_by_role("button", name="Show more").click()
        expect(rows).to_have_count(20 * pages)
    assert len(asked) == 3
    assert ann.page.locator("tbody img, tbody script, tbody i").count() == 0


def test_a_name_with_markup_is_only_a_name(visitor: Visitor, koi: Koi) -> None:
    visitor.sign_in(koi.key("hank", name="<b>锦鲤</b> ß 'x'"))
    visitor.go("Keys")

    expect(visitor.page.get_by_role("row", name="<b>锦鲤</b> ß 'x'")).to_be_visible()
    assert visitor.page.locator("tbody b").count() == 0
