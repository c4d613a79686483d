"""The screen of an invitation link: nothing happens until the button is pressed, then once."""

import re

from playwright.sync_api import expect

from tests.console.visitor import Visitor
from tests.harness import Koi


def link_of(koi: Koi, user: str) -> str:
    """What `koi invite` prints, from # on."""
    issued = koi.operate(lambda operator: operator.invitations.create(user))
    return f"/#/invite/{issued.token}"


def test_the_button_shows_the_key_once(visitor: Visitor, koi: Koi) -> None:
    page, link = visitor.page, link_of(koi, "invited")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.goto(link)
    expect(page.get_by_role("heading", name="You are invited")).to_be_visible()
    page.wait_for_load_state("networkidle")
    visitor.assert_accessible()
    before = koi.operate(lambda operator: operator.keys.keys("invited"))

    page.get_by_role("button", name="Show my key").click()
    shown = page.get_by_text(re.compile(r"^sk-koi-\S+$")).inner_text()
    visitor.assert_accessible()
    with koi.client(shown) as client:
        user = client.get("/v1/usage").json()["user"]
    page.reload()
    page.get_by_role("button", name="Show my key").click()

    expect(page.get_by_role("alert")).to_contain_text("used already")
    assert before == []
    assert user == "invited"
    assert not any("koi-inv-" in url for url in sent)
