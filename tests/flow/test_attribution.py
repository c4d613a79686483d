"""For whom and for what a request is: told in every report, believed of those who know, bounded,
and never a right."""

import base64
import csv
import hashlib
import hmac
import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, count
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from app.domain.attribution import Attribution
from app.domain.ledger import Entry
from app.domain.queries import USAGE_DIMENSIONS, UsageQuery
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.command import Cli, cli_on, served_by
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway, quick_sandbox

ADMIN = "an-admin-key-of-good-length"
SECRET = "open-webui-and-koi-share-this-one"
MOST = 4
NUMBERS = count()
OLD = {"since": 1_700_000_000}


class Pair:
    """Two gateways on one store: the second one wants Open WebUI's headers signed."""

    def __init__(self, plain: Koi, signed: Koi, cli: Cli) -> None:
        self.plain, self.signed, self.cli = plain, signed, cli

    def key(self, user: str, *, forwards: bool = False) -> str:
        async def issue(operator: OperatorContext) -> str:
            issued = await operator.keys.issue(user)
            if forwards:
                await operator.keys.set_forwards_users(issued.key.id, True)
            return issued.secret

        return self.plain.operate(issue)

    def make(
        self, key: str, headers: Any = (), *, signed: bool = False, **body: Any
    ) -> httpx.Response:
        """One more picture."""
        prompt = {"prompt": f"a koi, the {next(NUMBERS)}."}
        with (self.signed if signed else self.plain).client(key) as client:
            return client.post(GENERATE, json={**KOI, **prompt, **body}, headers=headers)

    def said(self, key: str, headers: Any = (), **options: Any) -> Attribution | None:
        """What the entry of one more picture says."""
        answer = self.make(key, headers, **options)
        assert answer.status_code == 200, answer.text
        return self.entry(answer.headers["x-koi-task-id"]).attribution

    def entry(self, task_id: str) -> Entry:
        return next(entry for entry in self.plain.entries() if entry.job == task_id)

    def text(self, *words: str) -> str:
        """What a command says, once the gateways, which are in this process, are quiet."""
        self.plain.settled()
        return self.cli.text(*words)

    def told(self, *words: str) -> Any:
        return json.loads(self.text(*words, "--json"))

    def admin(self, path: str, **query: Any) -> Any:
        with self.plain.client(ADMIN) as client:
            answer = client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture(scope="module")
def pair(
    engine: str, provider: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    provider.reset()
    path = tmp_path_factory.mktemp("pair")
    options = {"admin_key": ADMIN, "attributed_values": MOST}
    signed = {"openwebui_jwt_secret": SECRET, "openwebui_user": "email"}
    with (
        gateway(provider, engine, path / "koi", **options) as first,
        gateway(provider, engine, path / "koi", **options, **signed) as second,
    ):
        yield Pair(first, second, cli_on(path, engine))
        assert first.settled().difference == 0


def token(secret: str = SECRET, alg: str = "HS256", **claims: Any) -> str:
    now = int(time.time())
    said = {
        "sub": "u-7", "email": "mia@example.com", "name": "Mia", "role": "admin",
        "iss": "open-webui", "iat": now, "exp": now + 86_400, **claims,
    }  # fmt: skip
    parts = [_encode(json.dumps(part).encode()) for part in ({"alg": alg, "typ": "JWT"}, said)]
    signature = hmac.new(secret.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _encode(signature)])


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_sums_by_whatever_was_said_are_those_of_the_ledger(pair: Pair) -> None:
    ann, bob = pair.key("ann"), pair.key("bob")
    pair.make(ann, {"x-koi-tag": "ads", "openai-project": "proj_a"}, user="mia", n=2)
    pair.make(ann, {"x-koi-tag": "ads"}, user="mia", safety_identifier="hash-of-mia", signed=True)
    pair.make(ann, {"x-koi-tag": "print"}, signed=True)
    pair.make(bob, {"openai-project": "proj_a"})
    pair.make(bob)
    pair.plain.settled()
    entries = pair.plain.entries()

    for by in (*combinations(USAGE_DIMENSIONS, 1), ("tag", "user"), ("end_user", "project", "day")):

        async def report(operator: OperatorContext, by: Any = by) -> Any:
            return await operator.usage.report(UsageQuery(0, 2**42, by))

        (bucket,) = pair.plain.operate(report)
        told = {tuple(getattr(row, name) for name in by): row.images for row in bucket.rows}
        expected: Counter[Any] = Counter()
        for entry in entries:
            said = {} if entry.attribution is None else entry.attribution.given
            values = {**dict.fromkeys(("project", "tag", "end_user")), **said}
            expected[tuple(values.get(n, getattr(entry, n, None)) for n in by)] += entry.images
        assert told == dict(expected), by

    rows = pair.told("usage", "--by", "tag,end_user", "--user", "ann")["rows"]
    assert {(row["tag"], row["end_user"]): row["images"] for row in rows} == {
        ("ads", "mia"): 2, ("ads", "hash-of-mia"): 1, ("print", None): 1,
    }  # fmt: skip
    assert pair.told("usage", "--tag", "ads")["total"]["images"] == 3
    assert pair.told("usage", "--tag=-", "--user", "bob")["total"]["images"] == 2
    assert pair.told("usage", "--project", "proj_a", "--end-user=-")["total"]["images"] == 1


def test_the_administration_api_and_exports_tell_it_too(pair: Pair) -> None:
    key = pair.key("cleo")
    said = {"x-koi-tag": "Frühling 🌸", "openai-project": "proj_x"}
    pair.make(key, [(name.encode(), value.encode()) for name, value in said.items()], user="u1")
    pair.plain.settled()

    koi = pair.admin("/v1/koi/usage", group_by="tag,project,end_user", users="cleo").json()
    (row,) = koi["rows"]
    assert (row["tag"], row["project"], row["end_user"]) == ("Frühling 🌸", "proj_x", "u1")
    only = pair.admin("/v1/koi/usage", group_by="user", tags="Frühling 🌸").json()
    assert [(row["user"], row["images"]) for row in only["rows"]] == [("cleo", 1)]

    asked: dict[str, Any] = {"start_time": int(time.time()) - 3600, "user_ids": "cleo"}
    asked["group_by"] = ["tag", "openai_project", "end_user"]
    for path in ("usage/images", "costs"):
        data = pair.admin(f"/v1/organization/{path}", **asked).json()["data"]
        (result,) = [result for bucket in data for result in bucket["results"]]
        assert (result["tag"], result["openai_project"], result["end_user"]) == (
            "Frühling 🌸", "proj_x", "u1",
        )  # fmt: skip
        assert result["project_id"] is None
    plain = pair.admin("/v1/organization/usage/images", start_time=asked["start_time"]).json()
    assert all("tag" not in result for bucket in plain["data"] for result in bucket["results"])
    none = pair.admin("/v1/organization/usage/images", **asked, tags="other").json()["data"]
    assert not [result for bucket in none for result in bucket["results"]]

    table = pair.admin("/v1/koi/usage", group_by="tag", users="cleo", format="csv").text
    assert next(csv.DictReader(io.StringIO(table)))["tag"] == "Frühling 🌸"
    focus = pair.admin("/v1/koi/usage", users="cleo", format="focus").text
    (charge,) = csv.DictReader(io.StringIO(focus))
    assert json.loads(charge["Tags"]) == {
        "koi/user": "cleo", "koi/key": charge["ResourceId"], "koi/project": "proj_x",
        "koi/tag": "Frühling 🌸", "koi/end_user": "u1",
    }  # fmt: skip


def test_holders_read_their_own_by_tag(pair: Pair) -> None:
    own, other = pair.key("nia"), pair.key("oto")
    pair.make(own, {"x-koi-tag": "mine"}, n=2)
    pair.make(own)
    pair.make(other, {"x-koi-tag": "theirs"})
    pair.plain.settled()

    with pair.signed.client(own) as client:
        told = client.get("/v1/usage", params={"group_by": "tag,model"}).json()
        plain = client.get("/v1/usage").json()
        wrong = client.get("/v1/usage", params={"group_by": "user"})
    assert [(row["tag"], row["model"], row["images"]) for row in told["used"]] == [
        ("mine", "grok-imagine", 2), (None, "grok-imagine", 1),
    ]  # fmt: skip
    assert "used" not in plain
    assert wrong.status_code == 400


def test_tasks_and_jobs_are_found_by_their_tag(pair: Pair) -> None:
    key = pair.key("dora")
    task_id = pair.make(key, {"x-koi-tag": "poster"}, user="u1").headers["x-koi-task-id"]
    pair.make(key, {"x-koi-tag": "flyer"})
    pair.make(key)
    pair.plain.settled()

    with pair.plain.client(key) as client:
        task = client.get(f"/v1/tasks/{task_id}").json()
        tags = [task.get("tag") for task in client.get("/v1/tasks").json()["data"]]
    assert task["tag"] == "poster"
    assert "end_user" not in task
    assert tags == [None, "flyer", "poster"]
    listed = pair.told("tasks", "list", "--user", "dora", "--tag", "poster")
    assert [task["id"] for task in listed] == [task_id]
    assert len(pair.told("tasks", "list", "--user", "dora", "--tag=-")) == 1
    shown = pair.told("tasks", "show", task_id)
    assert (shown["tag"], shown["end_user"]) == ("poster", "u1")
    (job,) = pair.admin("/v1/koi/jobs", users="dora", tags="poster").json()["data"]
    assert (job["id"], job["tag"], job["end_user"], job["project"]) == (
        task_id, "poster", "u1", None,
    )  # fmt: skip
    assert pair.admin(f"/v1/koi/jobs/{task_id}").json()["tag"] == "poster"
    exported = list(csv.DictReader(io.StringIO(pair.text("ledger", "export", "--format", "csv"))))
    assert next(row for row in exported if row["job"] == task_id)["tag"] == "poster"


def test_who_asks_is_believed_of_marked_keys_only(pair: Pair) -> None:
    front = {"x-openwebui-user-id": "u-7", "x-openwebui-user-email": "mia@example.com"}
    marked, other = pair.key("webui", forwards=True), pair.key("stranger")

    assert pair.said(other, front) is None
    assert pair.said(other, front, user="own") == Attribution(end_user="own")
    assert pair.said(marked, front) == Attribution(end_user="u-7")
    assert pair.said(marked, front, user="whoever types it") == Attribution(end_user="u-7")
    assert pair.said(marked, user="own") == Attribution(end_user="own")
    twice = [*front.items(), ("x-openwebui-user-id", "admin")]
    assert pair.said(marked, twice) is None
    for bad in (b"x" * 129, b"\xff\xfe", b"", "\u202e".encode()):
        assert pair.said(marked, [(b"x-openwebui-user-id", bad)]) is None


@pytest.mark.parametrize(
    "forged",
    [
        token("another-secret-of-the-same-length"), token(alg="none"), token(alg="RS256"),
        token(iss="somebody"), token(exp=int(time.time()) - 3600), token(exp=None),
        token(iat=int(time.time()) + 3600), token(exp="never"), token(email=7), token(email=""),
        token().rpartition(".")[0] + ".", token()[:-3] + "AAA", "a.b", "a.b.c", "....", "é.é.é",
        "A" * 5000, token(email="x@" + "x" * 200), token(email="a\nb"),
    ],
    ids=[str(number) for number in range(19)],
)  # fmt: skip
def test_only_a_token_that_open_webui_signed_says_who_asks(pair: Pair, forged: str) -> None:
    key = pair.key("webui-signed", forwards=True)

    found = pair.said(key, [(b"x-openwebui-user-jwt", forged.encode())], signed=True)
    assert found is None


def test_a_signed_user_is_kept_by_the_word_that_the_settings_say(pair: Pair) -> None:
    marked, other = pair.key("webui-signed", forwards=True), pair.key("stranger")
    header = {"x-openwebui-user-jwt": token()}
    unsigned = {"x-openwebui-user-email": "eve@example.com", "x-openwebui-user-id": "eve"}

    assert pair.said(marked, header, signed=True) == Attribution(end_user="mia@example.com")
    assert pair.said(marked, {**header, **unsigned}, signed=True, user="eve") == Attribution(
        end_user="mia@example.com"
    )
    assert pair.said(other, header, signed=True) is None
    assert pair.said(marked, unsigned, signed=True) is None
    assert pair.said(marked, header) is None, "without the secret nobody can tell"


@pytest.mark.parametrize(
    "tag",
    [b"x" * 65, b"a,b", b"tab\there", "bidi\u202eevil".encode(), "zero\u200bwidth".encode(),
     b"\xff\xfe", b"(other)", b"-", "line\u2028break".encode(), "\u00a0".encode(), b"y" * 6000],
    ids=[str(number) for number in range(11)],
)  # fmt: skip
def test_a_tag_that_cannot_be_kept_is_refused_before_anything_is_bought(
    pair: Pair, tag: bytes
) -> None:
    key, before = pair.key("fay"), pair.plain.sandbox.posts

    answer = pair.make(key, [(b"x-koi-tag", tag)])

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        400, "invalid_value", "x-koi-tag",
    )  # fmt: skip
    assert pair.plain.sandbox.posts == before
    assert pair.plain.settled().open_jobs == 0


def test_a_dry_run_refuses_the_tag_that_the_purchase_would(pair: Pair) -> None:
    with pair.plain.client(pair.key("fay")) as client:
        codes = [
            client.post(
                f"{GENERATE}?dry_run=true", json=KOI, headers={"x-koi-tag": tag}
            ).status_code
            for tag in ("spring", "a,b")
        ]

    assert codes == [200, 400]


def test_two_tags_are_refused_and_an_empty_one_is_none(pair: Pair) -> None:
    key = pair.key("fay")

    both = pair.make(key, [("x-koi-tag", "a"), ("x-koi-tag", "b")])
    assert both.status_code == 400
    assert pair.said(key, {"x-koi-tag": ""}) is None
    assert pair.said(key, {"x-koi-tag": "spaced out"}) == Attribution(tag="spaced out")


@pytest.mark.parametrize(
    "field",
    [{"user": "x" * 129}, {"user": "a\nb"}, {"user": "(other)"}, {"user": ""}, {"user": None},
     {"safety_identifier": " "}, {"user": "\u202e"}],
)  # fmt: skip
def test_other_words_that_cannot_be_kept_are_left_out(pair: Pair, field: dict[str, Any]) -> None:
    assert pair.said(pair.key("gil"), {"openai-project": "p" * 200}, **field) is None


def test_beyond_so_many_values_of_a_user_and_month_the_rest_is_other(pair: Pair) -> None:
    hal, ida = pair.key("hal"), pair.key("ida")
    tags = [f"order-{number}" for number in range(MOST + 3)]
    ids = [pair.make(hal, {"x-koi-tag": tag}).headers["x-koi-task-id"] for tag in tags]
    again = pair.said(hal, {"x-koi-tag": tags[0]}, signed=True)
    another = pair.said(ida, {"x-koi-tag": tags[-1]})
    pair.plain.settled()

    rows = pair.told("usage", "--by", "tag", "--user", "hal")["rows"]
    assert {row["tag"]: row["images"] for row in rows} == {
        "(other)": 3, tags[0]: 2, **dict.fromkeys(tags[1:MOST], 1),
    }  # fmt: skip
    assert again == Attribution(tag=tags[0])
    assert another == Attribution(tag=tags[-1]), "each user has values of its own"
    with pair.plain.client(hal) as client:
        last = client.get(f"/v1/tasks/{ids[-1]}").json()
        listed = pair.told("tasks", "list", "--user", "hal", "--tag", tags[-1])
    assert last["tag"] == tags[-1], "the task itself still says what its caller said"
    assert [task["id"] for task in listed] == [ids[-1]]


def test_what_the_cache_has_and_what_is_joined_is_attributed_to_nobody_else(pair: Pair) -> None:
    key = pair.key("jan")
    same = {"prompt": "the same for everybody", "n": 1}
    first = pair.make(key, {"x-koi-tag": "first"}, **same)
    time.sleep(2.1)  # identical calls within two seconds want several pictures
    second = pair.make(key, {"x-koi-tag": "second"}, user="u2", **same)
    retry = {"x-stainless-retry-count": "1", "idempotency-key": "k", "x-koi-tag": "third"}
    fresh = pair.make(key, {**retry, "cache-control": "no-cache"}, prompt="once more")
    joined = pair.make(key, {**retry, "x-koi-tag": "fourth"}, prompt="once more")
    pair.plain.settled()

    assert second.headers["x-koi-cache"] == "hit"
    assert joined.headers["x-koi-task-id"] == fresh.headers["x-koi-task-id"]
    rows = pair.told("usage", "--by", "tag", "--user", "jan")["rows"]
    assert {row["tag"]: row["images"] for row in rows} == {"first": 1, "third": 1}
    assert first.headers["x-koi-task-id"] != fresh.headers["x-koi-task-id"]


def test_a_refund_is_taken_from_the_tag_that_was_charged(pair: Pair) -> None:
    key = pair.key("kim")
    task_id = pair.make(key, {"x-koi-tag": "returned"}, n=2).headers["x-koi-task-id"]
    pair.plain.settled()
    with pair.plain.client(ADMIN) as admin:
        answer = admin.post(f"/v1/koi/jobs/{task_id}/refund", json={"images": 1, "note": "sorry"})
    assert answer.status_code == 200, answer.text

    rows = pair.told("usage", "--by", "tag", "--user", "kim")["rows"]
    assert {row["tag"]: row["images"] for row in rows} == {"returned": 1}


def test_it_is_never_a_right_and_never_a_label(pair: Pair) -> None:
    poor, rich = pair.key("poor", forwards=True), pair.key("rich")
    pair.cli.run("users", "set", "poor", "--images-per-day", "0")
    as_rich = {"x-openwebui-user-id": "rich", "openai-project": "rich", "x-koi-tag": "rich"}

    deadline = time.monotonic() + 10
    while pair.make(poor, as_rich, user="rich").status_code == 200:
        assert time.monotonic() < deadline
    task_id = pair.make(rich, {"x-koi-tag": "mine"}).headers["x-koi-task-id"]
    with pair.plain.client(poor) as client:
        assert client.get(f"/v1/tasks/{task_id}", headers=as_rich).status_code == 404
    metrics = pair.admin("/metrics").text
    assert "mine" not in metrics
    assert "rich" not in metrics


def test_the_secret_of_open_webui_is_never_shown(pair: Pair) -> None:
    with pair.signed.client(ADMIN) as client:
        shown = client.get("/v1/koi/settings").text
    assert "openwebui_jwt_secret" in shown.lower()
    assert SECRET not in shown


def test_a_key_is_marked_shown_and_unmarked(pair: Pair) -> None:
    pair.cli.run("teams", "create", "den")
    pair.cli.run("users", "create", "lea", "--team", "den")
    made = pair.told("keys", "create", "--user", "lea", "--forwards-users")
    key_id = made["key_id"]
    assert made["forwards_users"] is True
    assert "forwards users" in pair.text("keys", "list", "--user", "lea")
    changed = pair.text("keys", "set", key_id, "--no-forwards-users")
    assert "forwards users yes -> no" in changed
    (shown,) = pair.told("keys", "list", "--user", "lea")
    assert "forwards_users" not in shown
    (listed,) = pair.admin("/v1/koi/api_keys", user="lea").json()["data"]
    assert listed["forwards_users"] is False
    with pair.plain.client(ADMIN) as admin:
        path = f"/v1/organization/projects/den/api_keys/{key_id}"
        answer = admin.post(path, json={"forwards_users": True})
        wrong = admin.post(path, json={"forwards_users": "yes"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["forwards_users"] is True
    assert wrong.status_code == 400
    audit = pair.told("audit", "--limit", "1")
    assert "forwards_users" in json.dumps(audit)


def test_it_survives_the_loss_of_the_store_and_end_users_can_be_left_out(
    tmp_path: Path,
) -> None:
    said = {"x-koi-tag": "kept", "openai-project": "proj_k"}
    with (
        quick_sandbox() as sandbox,
        EmbeddedStore(tmp_path / "store") as store,
        gateway(sandbox, store.url, tmp_path / "koi", end_users=False) as koi,
        koi.client() as client,
    ):
        made = client.post(GENERATE, json={**KOI, "user": "mia"}, headers=said)
        koi.settled()
        with redis.Redis.from_url(store.url) as raw:
            raw.flushall()
        cli = cli_on(tmp_path, store.url)
        _wait_for(client, "lost_data")
        cli.run("ledger", "rebuild")
        _wait_for(client, "ok")

        (row,) = cli.json("usage", "--by", "project,tag,end_user")["rows"]
        assert (row["project"], row["tag"], row["end_user"]) == ("proj_k", "kept", None)
        assert cli.json("tasks", "show", made.headers["x-koi-task-id"])["tag"] == "kept"
        assert not koi.operate(lambda operator: operator.ledger.audit(full=True)).differences
        koi.assert_ledger_matches_bill()


def _wait_for(client: httpx.Client, word: str) -> None:
    deadline = time.monotonic() + 10
    while client.get("/readyz").json()["ledger"] != word:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_log_has_the_tag_and_never_who_asked(sandbox: Sandbox, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {**served_by(sandbox.url), "KOI_LOG_LEVEL": "debug"})
    made = cli.json("keys", "create", "--user", "webui", "--new", "--forwards-users")
    said = {"x-openwebui-user-id": "id-of-mia", "x-koi-tag": "in-the-log"}
    with cli.forked() as serving:
        for names in (said, {"x-koi-tag": "in-the-log"}):
            answer = httpx.post(
                f"{serving.url}{GENERATE}",
                headers={"authorization": f"Bearer {made['key']}", **names},
                json={**KOI, "user": "name-of-mia", "safety_identifier": "hash-of-mia"},
                timeout=20,
            )
            assert answer.status_code == 200
        lines = serving.wait_for("request", times=2)
    assert [line["tag"] for line in lines if line["method"] == "POST"] == ["in-the-log"] * 2
    assert "of-mia" not in serving.log.read_text()
