"""The page without a mouse, and as a screen reader is told of it."""

import re
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import ROOT
from tests.console.visitor import Visitor
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

OPERATOR = (
    "Now", "People", "Keys", "Invitations", "Usage", "Jobs", "Money", "Alerts", "Changes",
    "Set-up",
)  # fmt: skip
HOLDER = ("What is left", "Pictures", "Tasks", "Try it", "Keys")
REACHABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"
NUMBER = f"""() => {{
  const shown = (one) => !one.disabled && one.checkVisibility({{visibilityProperty: true}});
  const radios = new Set();
  const found = [...document.querySelectorAll({REACHABLE!r})].filter((one) => {{
    if (one.type !== 'radio') return shown(one);
    return shown(one) && !radios.has(one.name) && radios.add(one.name);
  }});
  found.forEach((one, place) => {{ one.dataset.place = place; }});
  return found.length;
}}"""
FOCUSED = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  return {
    place: Number(one.dataset.place ?? -1),
    seen: one.matches(':focus-visible') && style.outlineStyle === 'solid',
    name: one.outerHTML.slice(0, 120),
    inDialog: Boolean(one.closest('dialog')),
  };
}"""
HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4')]
  .filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]))"""


def settle(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def go(page: Page, title: str) -> None:
    """To a screen, by the menu and a key."""
    page.get_by_role("navigation").get_by_role("link", name=title, exact=True).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile(f"^{title} · Koi$"))
    settle(page)


def walk(page: Page) -> None:
    """Every action is reached by Tab, in the order of the page, and is seen to be."""
    count = page.evaluate(NUMBER)
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    reached: list[dict[str, Any]] = []
    page.keyboard.press("Tab")
    # The browser's own bar has its turn, and a field of a date three or four.
    for _ in range(4 * count):
        focused = page.evaluate(FOCUSED)
        if focused["place"] not in [-1, *(one["place"] for one in reached)]:
            reached.append(focused)
        if len(reached) == count:
            break
        page.keyboard.press("Tab")
    places = [one["place"] for one in reached]
    start = places.index(0)
    ordered = places[start:] + places[:start]
    missed = sorted(set(range(count)) - set(places))
    assert not missed, [
        page.locator(f"[data-place='{place}']").evaluate("one => one.outerHTML.slice(0, 120)")
        for place in missed
    ]
    assert ordered == sorted(ordered)
    assert [one["name"] for one in reached if not one["seen"]] == []


def assert_structure(page: Page) -> None:
    assert page.get_by_role("banner").count() == 1
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation").count() == 1
    levels = page.evaluate(HEADINGS)
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def walk_screens(page: Page, titles: tuple[str, ...]) -> None:
    for title in (*titles[1:], titles[0]):
        go(page, title)
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        assert_structure(page)
        walk(page)


@pytest.fixture
def operator(visitor: Visitor, koi: Koi) -> Visitor:
    with koi.client(koi.key("kit", name="laptop")) as client:
        assert client.post(GENERATE, json=KOI).status_code == 200
    visitor.sign_in(ROOT, "operator")
    return visitor


def test_every_action_of_the_operators_screens_is_reached_by_tab(operator: Visitor) -> None:
    walk_screens(operator.page, OPERATOR)


def test_every_action_of_the_holders_screens_is_reached_by_tab(visitor: Visitor, koi: Koi) -> None:
    visitor.sign_in(koi.key("kit"))
    walk_screens(visitor.page, HOLDER)


@pytest.mark.parametrize(
    ("screen", "button"),
    [
        ("Now", "Stop spending"),
        ("People", "Add a person"),
        ("People", "From a file"),
        ("Invitations", "Invite somebody"),
        ("Money", "Correct an account"),
        ("Alerts", "New alert"),
        ("Set-up", "Back up now"),
    ],
)
def test_a_dialog_keeps_the_focus_and_gives_it_back(
    operator: Visitor, screen: str, button: str
) -> None:
    page = operator.page
    go(page, screen)
    opener = page.get_by_role("button", name=button, exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_have_accessible_name(button)
    inside = dialog.locator(REACHABLE).count()
    for _ in range(inside + 2):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        # Between the last and the first the browser's own bar has its turn, as the body.
        assert focused["inDialog"] or focused["name"].startswith("<body"), focused
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_a_picture_is_made_by_keyboard_and_its_progress_is_announced(
    visitor: Visitor, koi: Koi
) -> None:
    visitor.sign_in(koi.key("kit"))
    page = visitor.page
    go(page, "Try it")
    page.evaluate(
        """() => { window.said = [];
        const hear = () => document.querySelectorAll('[role=status], [aria-live=polite]').forEach(
          (one) => one.textContent.trim() && window.said.push(one.textContent.trim()));
        new MutationObserver(hear).observe(document.body,
          {subtree: true, childList: true, characterData: true}); }"""
    )
    page.get_by_label("Prompt").focus()
    page.keyboard.type("a koi that needs no mouse")
    page.get_by_role("button", name="Make it").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main").get_by_role("img").first).to_be_visible(timeout=30_000)
    said = page.evaluate("window.said")
    assert any("…" in one or "%" in one or "wait" in one.lower() for one in said), said
