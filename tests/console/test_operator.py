"""The operator's console in a real Chromium: each screen, what may be done there, and by whom."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Page, expect

from app.adapters.redis import keyspace, records
from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.domain.principal import ApiKey
from app.recovery.backup_file import BackupReader
from app.wiring.operator import OperatorContext
from tests.console.conftest import ROOT
from tests.console.visitor import Visitor
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

HOSTILE = '<img src=x onerror="document.title=1">'
SCREENS = {
    "": "Now", "people": "People", "keys": "Keys", "invitations": "Invitations", "usage": "Usage",
    "jobs": "Jobs", "money": "Money", "alerts": "Spend alerts", "changes": "Changes",
    "setup": "Set-up",
}  # fmt: skip
CHANGES = (
    "Stop spending", "Add a person", "Change limits", "Raise for a while", "Disable", "Delete",
    "New key", "Rotate", "Revoke", "Refund", "Correct an account", "Apply this difference",
    "Invite somebody", "Withdraw", "New alert", "Change alert", "Delete alert", "Back up now",
)  # fmt: skip


def make(koi: Koi, user: str, prompt: str = "a koi", n: int = 1) -> str:
    with koi.client(koi.key(user, name=HOSTILE)) as client:
        answer = client.post(GENERATE, json={**KOI, "prompt": f"{user} {prompt}", "n": n})
    koi.settled()
    return str(answer.headers["x-koi-task-id"])


@pytest.fixture
def operator(visitor: Visitor) -> Visitor:
    visitor.sign_in(ROOT, "operator")
    return visitor


def show(page: Page, path: str) -> None:
    page.goto(f"/#/{path}")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_screen_opens_is_accessible_and_fits_a_phone(
    operator: Visitor, koi: Koi, language: str
) -> None:
    make(koi, "ann")
    page = operator.page
    page.evaluate(f"localStorage.setItem('koi.language', '{language}')")
    page.reload()
    for path, title in SCREENS.items():
        page.set_viewport_size({"width": 1200, "height": 800})
        show(page, path)
        expect(page.locator("nav [aria-current]")).to_have_attribute("href", f"#/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        if language == "en":
            expect(page.get_by_role("heading", level=1)).to_contain_text(title)
        operator.assert_accessible()
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_spending_is_stopped_with_a_reason_and_resumed(operator: Visitor, koi: Koi) -> None:
    page = operator.page
    page.get_by_role("button", name="Stop spending").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What callers are told").fill(HOSTILE)
    dialog.get_by_role("button", name="Stop spending").click()
    expect(page.get_by_text("Stopped for everybody")).to_be_visible()
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    with koi.client() as client:
        refused = client.post(GENERATE, json=KOI)
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Nothing is stopped.")).to_be_visible()

    assert refused.json()["error"]["code"] == "spending_stopped"


def test_a_person_is_made_in_one_form_and_works_with_the_note(operator: Visitor, koi: Koi) -> None:
    page = operator.page
    show(page, "people")
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User name").fill("wendy")
    dialog.get_by_label("What people call them").fill(HOSTILE)
    dialog.get_by_label("Team").fill("wonder")
    dialog.get_by_label("Limits of their own").check()
    dialog.get_by_label("Images a day").fill("3")
    operator.assert_accessible()
    dialog.get_by_text("On the command line").click()
    expect(dialog.get_by_text("koi users create wendy --team wonder")).to_be_visible()
    dialog.get_by_role("button", name="Add a person").click()
    note = dialog.locator("pre").inner_text()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()

    key = re.search(r"sk-koi-\S+", note)
    assert key is not None
    with koi.client(key[0].rstrip('")')) as client:
        assert client.get("/v1/usage").status_code == 200
    assert koi.v1 in note
    made = koi.operate(lambda context: context.keys.user("wendy"))
    assert made.limits == Limits(images_per_day=3)


def test_limits_are_changed_with_a_reason_and_raised_for_a_while(
    operator: Visitor, koi: Koi
) -> None:
    koi.operate(lambda context: context.keys.create_user("lily", limits=Limits(images_per_day=5)))
    page = operator.page
    show(page, "people/lily")
    page.get_by_role("button", name="Change limits").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Images a day").fill("9")
    dialog.get_by_label("Why").fill("a new project")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("0 / 9")).to_be_visible()
    expect(page.get_by_text("a new project")).to_be_visible()
    page.get_by_role("button", name="Raise for a while").click()
    page.get_by_role("dialog").get_by_label("+ Images a day").fill("50")
    page.get_by_role("dialog").get_by_label("Why").fill("the deadline")
    page.get_by_role("dialog").get_by_role("button", name="Raise for a while").click()
    expect(page.get_by_text("0 / 59")).to_be_visible()
    expect(page.get_by_text("Raised: Images a day +50")).to_be_visible()
    operator.assert_accessible()


def test_a_key_is_rotated_revoked_and_identified_when_it_leaks(operator: Visitor, koi: Koi) -> None:
    secret = koi.key("leo", name="laptop")
    page = operator.page
    show(page, "keys")
    page.get_by_role("textbox", name="A leaked key").fill(f"GET /v1 Bearer {secret} 200")
    page.get_by_role("button", name="Whose is it?").click()
    expect(page.get_by_text("of leo, alive: revoke or rotate it")).to_be_visible()
    expect(page.get_by_role("textbox", name="A leaked key")).to_have_value("")
    assert secret not in page.content()
    show(page, "people/leo")
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.get_by_role("dialog").get_by_text("sk-koi-")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Done").click()
    expect(page.get_by_role("table", name="Keys").locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Revoke").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("revoked", exact=True)).to_be_visible()


def test_somebody_is_invited_by_a_link_that_can_be_withdrawn(operator: Visitor, koi: Koi) -> None:
    page = operator.page
    show(page, "invitations")
    page.get_by_role("button", name="Invite somebody").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User name").fill("ina")
    dialog.get_by_label("What the key will be called").fill(HOSTILE)
    dialog.get_by_text("On the command line").click()
    expect(dialog.get_by_text("koi invite ann --team design")).to_be_visible()
    operator.assert_accessible()
    dialog.get_by_role("button", name="Invite somebody").click()
    link = dialog.get_by_text(f"{koi.url}/#/invite/koi-inv-").inner_text()
    dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("row").filter(has_text="ina")
    expect(row).to_contain_text(HOSTILE)
    expect(row).to_contain_text("open")
    row.get_by_role("button", name="Withdraw").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    expect(row).to_contain_text("revoked")

    async def invite_and_delete(context: OperatorContext) -> None:
        await context.invitations.create("ivo")
        await context.keys.delete_user("ivo")

    koi.operate(invite_and_delete)
    page.reload()
    gone = page.get_by_role("row").filter(has_text="ivo")
    expect(gone).to_contain_text("user deleted")
    expect(gone.get_by_role("button", name="Withdraw")).to_be_visible()

    token = link.rpartition("/")[2]
    refused = httpx.post(f"{koi.v1}/koi/invitations/accept", json={"token": token})
    assert refused.status_code == 410


def test_a_job_is_read_as_a_timeline_and_refunded_with_a_note(operator: Visitor, koi: Koi) -> None:
    task = make(koi, "tim", f"secret prompt {HOSTILE}", 2)
    page = operator.page
    show(page, "jobs/users=tim")
    page.get_by_role("link", name=task[:13]).click()
    timeline = page.locator(".timeline")
    for event in (
        "Accepted",
        "Reserved",
        "Sent to the provider",
        "Pictures in our store",
        "Settled",
    ):
        expect(timeline.get_by_text(event, exact=True)).to_be_visible()
    assert "secret prompt" not in page.content()
    operator.assert_accessible()
    page.get_by_role("button", name="Refund").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Images").fill("1")
    dialog.get_by_label("Note").fill(HOSTILE)
    dialog.get_by_role("button", name="Refund").click()
    expect(timeline.get_by_text("Corrected")).to_be_visible()
    expect(page.get_by_text("1 (0.14 CNY)")).to_be_visible()
    page.get_by_role("button", name="Copy the ids").click()
    assert task in page.evaluate("navigator.clipboard.readText()")


def test_the_providers_bill_is_dropped_and_shown_in_piles(operator: Visitor, koi: Koi) -> None:
    make(koi, "bill")
    page = operator.page
    show(page, "money")
    bill = koi.sandbox.fee_details()
    file = {"name": "fees.csv", "mimeType": "text/csv", "buffer": bill.encode()}
    page.get_by_label("Fee details").set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_text("billed, not charged here")).to_be_visible()
    stranger = bill.replace("req_", "other_").replace("task_", "other_")
    page.get_by_label("Fee details").set_input_files(
        {**file, "name": f"{HOSTILE}.csv", "buffer": stranger.encode()}  # type: ignore[arg-type]
    )
    expect(page.get_by_text("Nothing is corrected")).to_be_visible()
    expect(page.get_by_text("they differ")).to_be_visible()
    operator.assert_accessible()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("difference 0")).to_be_visible()


def test_people_come_from_a_file_once_its_difference_was_seen(operator: Visitor) -> None:
    page = operator.page
    show(page, "people")
    page.get_by_role("button", name="From a file").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Or its text").fill("[users.fileperson]\nimages_per_day = 4\n")
    expect(dialog.get_by_role("button", name="Apply this difference")).to_be_disabled()
    dialog.get_by_role("button", name="Show the difference").click()
    expect(dialog.get_by_text("images_per_day none → 4")).to_be_visible()
    dialog.get_by_role("button", name="Apply this difference").click()
    expect(dialog.get_by_role("heading", name="Applied")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Search").fill("fileperson")
    expect(page.get_by_role("link", name="fileperson")).to_be_visible()


def test_usage_is_grouped_filtered_and_downloaded(operator: Visitor, koi: Koi) -> None:
    make(koi, "ursula", n=3)
    page = operator.page
    show(page, "usage")
    page.get_by_label("Only users").fill("ursula")
    expect(page.get_by_role("row", name="ursula")).to_contain_text("0.42")
    expect(page.get_by_role("row", name=re.compile("^Total"))).to_contain_text("3")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download FOCUS").click()
    assert downloading.value.suggested_filename == "koi-focus.csv"
    page.get_by_label("Period").select_option("yesterday")
    expect(page.get_by_text("Nothing was used in this time.")).to_be_visible()


def test_usage_and_jobs_are_told_apart_by_what_requests_say(operator: Visitor, koi: Koi) -> None:
    headers = {"x-koi-tag": "autumn", "openai-project": "proj_web"}
    with koi.client(koi.key("tara")) as client:
        body = {**KOI, "prompt": "tara's koi", "user": HOSTILE}
        made = client.post(GENERATE, json=body, headers=headers)
        client.post(GENERATE, json={**KOI, "prompt": "tara's other koi"})
    koi.settled()
    page = operator.page
    show(page, "usage")
    page.get_by_label("Only users").fill("tara")
    page.get_by_label("Group by").select_option("tag")
    page.get_by_label("Then by").select_option("end_user")
    expect(page.get_by_role("row", name="autumn")).to_contain_text(HOSTILE)
    page.get_by_label("Only tags").fill("-")
    expect(page.get_by_role("row", name="autumn")).to_have_count(0)
    expect(page.get_by_text("--tag=-")).to_be_attached()
    show(page, "jobs")
    page.get_by_label("Tags").fill("autumn")
    expect(page.locator("tbody tr")).to_have_count(1)
    show(page, f"jobs/{made.headers['x-koi-task-id']}")
    expect(page.get_by_text("proj_web")).to_be_visible()
    expect(page.get_by_text("autumn", exact=True)).to_be_visible()


def test_ten_thousand_keys_are_searched_and_paged_by_the_server(
    operator: Visitor, koi: Koi
) -> None:
    async def fill(context: OperatorContext) -> None:
        rows: dict[str, bytes] = {}
        for number in range(10_000):
            id = f"key_crowd{number:05}"
            key = ApiKey(id, "crowd", f"{number:064x}", f"key {number}", Limits(), number)
            rows[id] = records.write(key)
        with redis.Redis.from_url(str(context.settings.redis_url)) as client:
            client.hset("koi:1:{ledger}:keys", mapping=rows)
        await context.keys.create_user("crowd")

    koi.operate(fill)
    page = operator.page
    show(page, "keys")
    page.get_by_label("User").fill("crowd")
    expect(page.get_by_text("10,000 keys")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("tbody tr")).to_have_count(100)
    page.get_by_label("Search").fill("key 1234")
    expect(page.get_by_text("1 keys")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_log_of_changes_says_who_what_and_why(operator: Visitor, koi: Koi) -> None:
    async def change(context: OperatorContext) -> None:
        await context.keys.create_user("chad")
        await context.changing(HOSTILE).set_user_limits("chad", Limits(images_per_day=8))

    koi.operate(change)
    page = operator.page
    show(page, "changes")
    page.get_by_label("About").fill("chad")
    row = page.get_by_role("row").filter(has_text="images_per_day: none → 8")
    expect(row).to_contain_text(HOSTILE)


def test_the_set_up_shows_settings_and_no_secret(operator: Visitor) -> None:
    page = operator.page
    show(page, "setup")
    expect(page.get_by_text("KOI_ADMIN_KEY")).to_be_visible()
    expect(page.get_by_text("all share one image store")).to_be_visible()
    assert ROOT not in page.content()
    assert "sk-sandbox" not in page.content()


def test_a_backup_is_saved_by_the_browser_and_is_the_latest(
    operator: Visitor, tmp_path: Path
) -> None:
    page = operator.page
    show(page, "setup")
    page.get_by_role("button", name="Back up now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("never a key")).to_be_visible()
    operator.assert_accessible()
    dialog.get_by_label("Why").fill("before the move")
    with page.expect_download() as downloading:
        dialog.get_by_role("button", name="Make it and save it here").click()
    file = tmp_path / "koi.gz"
    downloading.value.save_as(file)
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.get_by_text(f"koi restore {downloading.value.suggested_filename}")).to_be_visible()
    expect(page.get_by_text("The latest is of").first).to_be_visible()
    assert sum(1 for row in BackupReader(file)) > 0
    show(page, "changes")
    expect(page.get_by_text("before the move")).to_be_visible()


def test_the_move_is_guided_until_the_store_says_that_it_moved(operator: Visitor, koi: Koi) -> None:
    page = operator.page
    show(page, "setup")
    page.get_by_label("Address of the new server").fill("vault:6400")
    command = "koi migrate --to redis://koi:PASSWORD@vault:6400/0"
    expect(page.get_by_text(command)).to_be_visible()

    key, suspect = koi.key(), keyspace.key("suspect")
    with redis.Redis.from_url(str(koi.settings.redis_url)) as client:
        client.set(suspect, "moved redis://vault:6400/0")
        try:
            with koi.client(key) as user:
                assert user.post(GENERATE, json=KOI).status_code == 503
            page.reload()
            expect(page.get_by_text("has moved, to redis://vault:6400/0")).to_be_visible()
            expect(page.get_by_text(f"{command} --cancel")).to_be_visible()
        finally:
            client.delete(suspect)


def test_spend_alerts_are_made_changed_and_deleted(operator: Visitor, koi: Koi) -> None:
    koi.operate(lambda context: context.keys.create_team("spenders", Limits()))
    page = operator.page
    show(page, "alerts")
    for team, amount in (("", "100"), ("spenders", "12.5")):
        page.get_by_role("button", name="New alert").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Team").fill(team)
        dialog.get_by_label("Spent in a month").fill(amount)
        dialog.get_by_label("Recipients").fill(f"ops@example.com, {HOSTILE}")
        operator.assert_accessible()
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_have_count(0)
    house, row = (page.get_by_role("row").filter(has_text=t) for t in ("whole house", "spenders"))
    expect(house).to_contain_text("100.00 CNY")
    expect(row).to_contain_text("12.50 CNY")
    expect(row).to_contain_text(HOSTILE)
    row.get_by_role("button", name="Change alert").click()
    page.get_by_role("dialog").get_by_text("On the command line").click()
    expect(page.get_by_role("dialog").get_by_text("koi alerts set alert_")).to_be_visible()
    page.get_by_role("dialog").get_by_label("Spent in a month").fill("0.07")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(row).to_contain_text("0.07 CNY")
    row.get_by_role("button", name="Delete alert").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete alert").click()
    expect(row).to_have_count(0)
    expect(house).to_have_count(1)


def test_a_key_that_may_only_read_is_offered_nothing_else(visitor: Visitor, koi: Koi) -> None:
    async def issue(context: OperatorContext) -> str:
        scopes = frozenset({AdminScope.READ})
        return (await context.admin_keys.issue("reader", scopes, timedelta(days=1))).secret

    task = make(koi, "rita")
    visitor.sign_in(koi.operate(issue), "operator")
    page = visitor.page
    for path in (*SCREENS, "people/rita", f"jobs/{task}"):
        show(page, path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        for name in CHANGES:
            assert page.get_by_role("button", name=name, exact=True).count() == 0, (path, name)


def test_who_administers_one_team_is_shown_that_team_alone(visitor: Visitor, koi: Koi) -> None:
    async def make_teams(context: OperatorContext) -> str:
        for team in ("lilac", "amber"):
            await context.keys.create_team(team, Limits(images_per_day=20))
            limits = Limits(images_per_day=5)
            await context.keys.create_user(f"{team}-user", team=team, limits=limits)
        scopes = frozenset({AdminScope.ALL})
        return (await context.admin_keys.issue("lead", scopes, team="lilac")).secret

    visitor.sign_in(koi.operate(make_teams), "operator")
    page = visitor.page
    expect(page.get_by_role("heading", level=1)).to_contain_text("lilac")
    links = page.get_by_role("navigation").get_by_role("link")
    assert links.all_inner_texts() == [
        "Team", "People", "Keys", "Invitations", "Usage", "Jobs", "Changes",
    ]  # fmt: skip
    closed = ("Change limits", "Raise for a while", "Disable", "Archive", "From a file")
    for path in ("", "people", "keys", "invitations", "usage", "jobs", "changes"):
        show(page, path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        assert "amber" not in page.content(), path
        assert page.get_by_text("On the command line").count() == 0
        for name in closed:
            assert page.get_by_role("button", name=name, exact=True).count() == 0, (path, name)
    for path in ("money", "setup"):
        show(page, path)
        expect(page.get_by_text("There is no such page.")).to_be_visible()
    show(page, "people/lilac-user")
    page.get_by_role("button", name="Change limits").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Images a day").fill("21")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("cannot be made larger than your team's")
    dialog.get_by_label("Images a day").fill("7")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("0 / 7")).to_be_visible()
    show(page, "people")
    page.get_by_role("button", name="Add a person").click()
    assert dialog.get_by_label("Team").count() == 0
    dialog.get_by_label("User name").fill("lou")
    dialog.get_by_role("button", name="Add a person").click()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name="lou", exact=True)).to_be_visible()


def test_a_store_that_is_away_is_said_with_what_still_works(
    operator: Visitor, koi: Koi, store: Any
) -> None:
    page = operator.page
    show(page, "")
    expect(page.get_by_text("Images today")).to_be_visible()
    with redis.Redis.from_url(store.url) as client:
        client.execute_command("CLIENT", "PAUSE", 20_000, "ALL")
    expect(page.get_by_text("The store is away.").first).to_be_visible(timeout=20_000)
    expect(page.get_by_text("it does not answer")).to_be_visible()
    operator.assert_accessible()
    expect(page.get_by_text("Images today")).to_be_visible(timeout=60_000)
