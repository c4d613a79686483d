"""What the operator's console asks for, by the front door; one gateway for all."""

import csv
import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from app.adapters.redis import records
from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.domain.principal import ApiKey
from app.sandbox.server import Sandbox
from app.service.usage_export import FOCUS_COLUMNS
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway

ROOT_KEY = "admin-6a5b4c3d2e1f0a9b"
FOCUS_1_2_MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory",
    "ServiceName",
}  # fmt: skip
FOCUS_1_2_CONDITIONAL = {
    "AvailabilityZone", "BillingAccountType", "CapacityReservationId", "CapacityReservationStatus",
    "ChargeFrequency", "CommitmentDiscountCategory", "CommitmentDiscountId",
    "CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus",
    "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedUnitPrice", "InvoiceId", "ListUnitPrice", "PricingCategory", "PricingCurrency",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice", "RegionId", "RegionName", "ResourceId", "ResourceName",
    "ResourceType", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
}  # fmt: skip


class Desk:
    """The operator's side of one gateway."""

    def __init__(self, koi: Koi, client: httpx.Client) -> None:
        self.koi, self.client = koi, client

    def get(self, path: str, answered: int = 200, **query: Any) -> Any:
        answer = self.client.get(f"/v1/koi/{path}", params=query)
        assert answer.status_code == answered, answer.text
        return answer.json()

    def post(self, path: str, body: Any, answered: int = 200, **query: Any) -> Any:
        sent = {"content": body} if isinstance(body, str | bytes) else {"json": body}
        answer = self.client.post(f"/v1/koi/{path}", params=query, **sent)
        assert answer.status_code == answered, answer.text
        return answer.json()

    def make(self, user: str, n: int = 1, prompt: str = "a koi") -> str:
        """Pictures of a user; the id of the task."""
        with self.koi.client(self.koi.key(user)) as client:
            answer = client.post(GENERATE, json={**KOI, "prompt": f"{user} {prompt}", "n": n})
        self.koi.settled()
        return str(answer.headers["x-koi-task-id"])


@pytest.fixture(scope="module")
def desk(
    engine: str, provider: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    provider.reset()
    path = tmp_path_factory.mktemp("koi")
    options = {"admin_key": ROOT_KEY, "house_images_per_day": 500, "resolve_after_s": 30}
    with (
        gateway(provider, engine, path, **options) as koi,
        koi.client(ROOT_KEY) as client,
    ):
        yield Desk(koi, client)


def test_health_says_each_part_in_a_sentence_and_the_figures_of_now(desk: Desk) -> None:
    desk.make("healthy")
    found = desk.get("health")

    names = {check["name"] for check in found["checks"]}
    assert {"provider", "store", "books", "journal", "owed", "data directory"} <= names
    assert all(check["mend"] for check in found["checks"] if check["state"] != "ok")
    assert found["house"]["images_day"]["limit"] == 500
    assert found["jobs"]["unknown"] == 0


def test_people_come_in_pages_with_how_their_limits_stand(desk: Desk) -> None:
    desk.post("welcome", {"name": "zoe", "team": "zoo", "limits": {"max_images_per_1_day": 1}})
    desk.make("zoe")
    page = desk.get("people", q="zoe")
    (zoe,) = page["data"]
    alarms = desk.get("people", above_80="true")["data"]
    (zoo,) = desk.get("people", kind="team", q="zoo")["data"]

    assert zoe["standing"]["images_day"]["used"] == 1
    assert zoe["standing"]["images_day"]["left"] == 0
    assert zoe["alarm"] == "images_day"
    assert zoe["team"] == "zoo"
    assert zoe["keys"] == 2
    assert [person["id"] for person in alarms] == ["zoe"]
    assert (zoo["members"], zoo["keys"]) == (1, 2)
    assert desk.get("people/zoe")["id"] == "zoe"
    desk.get("people/nobody", 404)


def test_a_person_is_welcomed_once_and_the_note_has_all_to_begin(desk: Desk) -> None:
    body = {"name": "ida", "title": "Ida B.", "team": "blue", "expires_in_seconds": 86_400}
    first, again = desk.post("welcome", body), desk.post("welcome", body)
    secret = first["api_key"]["value"]
    with desk.koi.client(secret) as client:
        usage = client.get("/v1/usage")

    assert usage.status_code == 200
    assert secret in first["note"]
    assert first["base_url"] == f"{desk.koi.url}/v1"
    assert "Ida B." in first["note"]
    assert (first["created"], again["created"]) == (True, False)
    assert again["api_key"] is None
    assert again["key_id"] == first["key_id"]
    assert "sk-koi-" not in again["note"]
    other = desk.post("welcome", {**body, "team": "red"}, 400)
    assert other["error"]["code"] == "conflict"


def test_a_leaked_key_is_known_by_its_digest_and_never_repeated(desk: Desk) -> None:
    secret = desk.koi.key("leaky", name="laptop")
    line = f'GET /v1/usage "Authorization: Bearer {secret}" 200 and sk-koi-{"x" * 43}-00000000'
    found = desk.post("keys/identify", {"text": line})
    (mine, stranger) = found["found"]
    desk.client.delete(f"/v1/koi/api_keys/{mine['key']['id']}")
    (ended,) = desk.post("keys/identify", {"text": secret})["found"]
    (by_ending,) = desk.post("keys/identify", {"text": f"…{secret[-8:]}"})["found"]

    assert (mine["kind"], mine["alive"], mine["key"]["user"]) == ("key", True, "leaky")
    assert (stranger["kind"], stranger["alive"]) == ("unknown", False)
    assert (ended["alive"], ended["key"]["state"]) == (False, "revoked")
    assert by_ending["key"]["id"] == mine["key"]["id"]
    assert secret not in str(found)
    assert desk.post("keys/identify", {"text": "nothing to see here"})["found"] == []


def test_a_table_of_ten_thousand_keys_is_read_by_the_page(desk: Desk) -> None:
    async def fill(operator: OperatorContext) -> None:
        await operator.keys.create_user("crowd")
        rows: dict[str, bytes] = {}
        for number in range(10_000):
            id = f"key_crowd{number:05}"
            key = ApiKey(id, "crowd", f"{number:064x}", f"key {number}", Limits(), number)
            rows[id] = records.write(key)
        with redis.Redis.from_url(str(operator.settings.redis_url)) as client:
            client.hset("koi:1:{ledger}:keys", mapping=rows)
        await operator.keys.create_user("crowd-seen")

    desk.koi.operate(fill)
    first = desk.get("api_keys", user="crowd", limit=100)
    started_s = time.perf_counter()
    second = desk.get("api_keys", user="crowd", limit=100, after=first["last_id"])
    found = desk.get("api_keys", q="crowd01234")
    person = desk.get("people/crowd")
    took_s = time.perf_counter() - started_s

    assert first["total"] == 10_000
    assert first["data"][0]["name"] == "key 9999"
    assert second["data"][0]["name"] == "key 9899"
    assert [key["name"] for key in found["data"]] == ["key 1234"]
    assert person["keys"] == 10_000
    assert took_s < 5


def test_a_file_of_people_shows_its_difference_before_it_is_applied(desk: Desk) -> None:
    file = '[teams.file]\n[users.filed]\nteam = "file"\nimages_per_day = 7\n'
    shown = desk.post("configuration", file)
    stale = desk.post("configuration", file, 400, apply="true", plan="0" * 32)
    done = desk.post("configuration", file, apply="true", plan=shown["plan"])
    again = desk.post("configuration", file)
    bad = desk.post("configuration", "[users.x]\ncolour = 1", 400)
    long = desk.post("configuration", f"x = {'9' * 5_000}", 400)

    assert [change["target"] for change in shown["changes"]] == ["team file", "user filed"]
    assert shown["changes"][1]["changes"]["images_per_day"] == ["none", "7"]
    assert stale["error"]["code"] == "conflict"
    assert (shown["applied"], done["applied"]) == (False, True)
    assert again["changes"] == []
    assert "colour" in bad["error"]["message"]
    assert "is no TOML" in long["error"]["message"]


NAME = "a." * 20_000 + "a"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (1, f"{NAME} = 1"),
        (1, f'"=".{NAME} = 1'),
        (1, f"'#'.{NAME} = 1"),
        (1, f"x = {{{NAME} = 1}}"),
        (1, f"x = [{{y = 1, {NAME} = 1}}]"),
        (1, "x." + '"\u2028".'.join(["a." * 30] * 700) + "a = 1"),
        (2, f"[users]\n['\"'.{NAME}]"),
        (4, f'x = """\n\'\'\'\n""""\n{NAME} = 1'),
        (3, f"x = '''\n\\'''\n{NAME} = 1"),
        (2, f'x = "\\\\" # "\n{NAME} = 1'),
        (2, f"x = '\\' # '\n{NAME} = 1"),
    ],
)
def test_a_name_of_very_many_parts_is_refused_unread(desk: Desk, line: int, text: str) -> None:
    """A reader of TOML takes the square of their number."""
    refused = desk.post("configuration", text, 400)

    assert f"line {line}: a name has too many parts" in refused["error"]["message"]


def test_dots_in_words_are_no_parts_of_a_name(desk: Desk) -> None:
    dots = "." * 40
    file = (
        f"# {dots}\n[teams.dotted]\ntitle = '{dots}' # {dots}\n"
        f'[users."a{dots}b"]\ntitle = """\n{dots} \\"""""\n'
        f"[users.d]\ntitle = '''\n{dots}'''\n"
    )

    shown = desk.post("configuration", file)

    assert [change["target"] for change in shown["changes"]] == [
        "team dotted", f"user a{dots}b", "user d"
    ]  # fmt: skip


def test_usage_is_a_table_a_csv_and_focus_with_the_same_sums(desk: Desk) -> None:
    desk.make("uma", 2)
    table = desk.get("usage", period="today", group_by="user,model", users="uma")
    text = desk.client.get("/v1/koi/usage", params={"format": "csv", "users": "uma"}).text
    focus = desk.client.get("/v1/koi/usage", params={"format": "focus", "users": "uma"})
    (row,) = csv.DictReader(io.StringIO(text))
    (charge,) = csv.DictReader(io.StringIO(focus.text))

    assert [(one["user"], one["images"], one["cost"]) for one in table["rows"]] == [
        ("uma", 2, "0.28")
    ]
    assert table["total"]["images"] == 2
    assert (row["user"], row["images"], row["cost"]) == ("uma", "2", "0.28")
    assert focus.headers["content-type"].startswith("text/csv")
    assert (charge["BilledCost"], charge["ConsumedQuantity"]) == ("0.28", "2")
    assert charge["ListUnitPrice"] == "0.14"
    assert '"koi/user": "uma"' in charge["Tags"]
    desk.get("usage", 400, since=5, until=5)


def test_focus_has_the_columns_of_version_1_2() -> None:
    columns = set(FOCUS_COLUMNS)

    assert columns >= FOCUS_1_2_MANDATORY
    assert columns <= FOCUS_1_2_MANDATORY | FOCUS_1_2_CONDITIONAL
    assert len(columns) == len(FOCUS_COLUMNS)


def test_a_job_is_found_and_told_as_a_timeline(desk: Desk) -> None:
    good = desk.make("jo", 2)
    bad = desk.make("jo", prompt="[fault:400]")
    listed = desk.get("jobs", users="jo", limit=1)
    rest = desk.get("jobs", users="jo", limit=10, page=listed["next_page"])
    failed = desk.get("jobs", users="jo", status="failed")["data"]
    story = desk.get(f"jobs/{good}")
    events = [event["event"] for event in story["timeline"]]

    journal = desk.get(f"jobs/{good}", journal="true")["timeline"]
    lines = [event for event in journal if event["event"] == "journal"]

    assert next(line["state"] for line in lines if "state" in line) == "R"
    assert any("task_id" in line for line in lines)
    assert all("http" not in str(line) for line in lines)
    assert {job["id"] for job in [*listed["data"], *rest["data"]]} == {good, bad}
    assert [job["id"] for job in failed] == [bad]
    assert failed[0]["code"]
    assert desk.get("jobs", users="jo", codes=failed[0]["code"])["data"][0]["id"] == bad
    assert events[:3] == ["accepted", "reserved", "sent"]
    assert {"provider", "delivered", "settle"} <= set(events)
    assert (story["images"], story["cost"], story["pictures"]) == (2, "0.28", 2)
    assert "a koi" not in str(story)
    desk.get("jobs/task_0", 404)
    desk.get("jobs", 400, page="nonsense")


def test_a_job_is_known_beyond_its_record(desk: Desk) -> None:
    task = desk.make("old")
    with redis.Redis.from_url(str(desk.koi.settings.redis_url)) as client:
        client.delete(f"koi:1:{{ledger}}:job:{task}")
    story = desk.get(f"jobs/{task}")

    assert (story["kept"], story["images"], story["user"]) == (False, 1, "old")
    refund = desk.post(f"jobs/{task}/refund", {"note": "late"}, since=story["sent_at"])
    assert [job["id"] for job in desk.get("jobs", users="old")["data"]] == [task]
    assert (refund["images"], refund["job_images"]) == (1, 0)


def test_a_refund_is_entered_once_and_never_more_than_was_charged(desk: Desk) -> None:
    task = desk.make("ray", 3)
    one = desk.post(f"jobs/{task}/refund", {"images": 1, "note": "blurred"})
    same = desk.post(f"jobs/{task}/refund", {"images": 1, "note": "blurred"})
    much = desk.post(f"jobs/{task}/refund", {"images": 3, "note": "all of it"}, 400)
    rest = desk.post(f"jobs/{task}/refund", {"note": "sorry"})
    again = desk.post(f"jobs/{task}/refund", {"note": "sorry"})
    log = desk.client.get("/v1/organization/audit_logs", params={"limit": 1}).json()["data"][0]

    assert (one["images"], one["cost"], one["job_images"]) == (1, "0.14", 2)
    assert same["entry"] == one["entry"]
    assert "2 images" in much["error"]["message"]
    assert (rest["images"], rest["job_images"]) == (2, 0)
    assert again["entry"] == rest["entry"]
    assert (log["koi"]["kind"], log["koi"]["reason"]) == ("ledger.adjusted", "sorry")
    assert desk.get(f"jobs/{task}")["timeline"][-1]["note"] == "sorry"
    assert desk.koi.audit().difference == 0


def test_the_providers_bill_is_compared_and_its_corrections_entered(desk: Desk) -> None:
    desk.make("bill")
    bill = desk.koi.sandbox.fee_details()
    report = desk.post("bill", bill, name="fees.csv")
    strange = desk.post("bill", bill.replace("req_", "other_").replace("task_", "other_"))
    broken = desk.post("bill", b"\x00\x01", 400)
    endless = desk.post("bill", b"\n" * 100_001, 400)

    assert report["name"] == "fees.csv"
    assert report["matched"]["lines"] > 0
    assert report["may_correct"]
    assert strange["agrees"] is False
    assert "Nothing is corrected" in strange["refused"]
    assert "/tmp" not in broken["error"]["message"]
    assert "for the command line" in endless["error"]["message"]


def test_prices_check_and_corrections_of_a_user(desk: Desk) -> None:
    desk.make("pam")
    prices = desk.get("prices")
    before = desk.get("ledger/check")
    done = desk.post(
        "ledger/adjustments", {"user": "pam", "model": "grok-imagine", "images": -1, "note": "gift"}
    )

    body = {"user": "pam", "model": "grok-imagine", "images": 2, "note": "once"}
    ask = {"headers": {"idempotency-key": "dialog-1"}, "json": body}
    first, again = [desk.client.post("/v1/koi/ledger/adjustments", **ask) for _ in range(2)]
    ask["json"] = {**body, "images": 3}
    other = desk.client.post("/v1/koi/ledger/adjustments", **ask)

    ask["headers"] = {"idempotency-key": "n" * 256}
    assert "invalid_idempotency_key" in desk.client.post("/v1/koi/ledger/adjustments", **ask).text
    assert first.json()["entry"] == again.json()["entry"]
    assert (other.status_code, "under the same id" in other.text) == (400, True)
    assert prices["unpriced"] == []
    assert all(row["price"] for row in prices["data"])
    assert before["difference"] == 0
    assert (done["images"], done["cost"]) == (-1, "-0.14")


def test_settings_are_shown_without_secrets_and_gateways_are_named(desk: Desk) -> None:
    found = desk.get("settings")
    rows = {row["name"]: row for row in found["data"]}

    assert rows["KOI_ADMIN_KEY"] == {
        "name": "KOI_ADMIN_KEY", "value": "***", "source": "command", "secret": True
    }  # fmt: skip
    assert rows["KOI_HOUSE_IMAGES_PER_DAY"]["value"] == "500"
    assert rows["KOI_TIMEZONE"]["source"] == "default"
    assert ROOT_KEY not in str(found)
    assert "sk-sandbox" not in str(found)
    assert len(found["gateways"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("POST", "welcome", {"name": "nina"}, "people"),
        ("POST", "jobs/task_0/refund", {"note": "x"}, "money"),
        ("DELETE", "jobs/task_0", None, "people"),
        ("POST", "ledger/adjustments", {"user": "a", "model": "b", "note": "c"}, "money"),
        ("POST", "bill?apply=all", "x", "money"),
        ("POST", "configuration?apply=true", "x", "people"),
    ],
)
def test_a_key_that_may_only_read_changes_nothing(
    desk: Desk, method: str, path: str, body: Any, scope: str
) -> None:
    async def issue(operator: OperatorContext) -> str:
        return (await operator.admin_keys.issue("reader", frozenset({AdminScope.READ}))).secret

    secret = desk.koi.operate(issue)
    sent = {"content": body} if isinstance(body, str) else {"json": body}
    with desk.koi.client(secret) as client:
        answer = client.request(method, f"/v1/koi/{path}", **sent)
        health = client.get("/v1/koi/health")

    assert answer.status_code == 403
    assert scope in answer.json()["error"]["message"]
    assert health.status_code == 200
