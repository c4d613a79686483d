"""Several gateways on one store must share one image store: who cannot is told before it serves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from app.adapters.redis import keyspace
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, Serving, generate, served_by

GATEWAYS = next(key.name for key in keyspace.KEYS if key.noun == "gateways")


def cli(path: Path, sandbox: Sandbox, store_url: str, **settings: str) -> Cli:
    path.mkdir(exist_ok=True)
    return Cli(
        path,
        {
            **served_by(sandbox.url),
            "KOI_REDIS_URL": store_url,
            **settings,
        },
    )


@pytest.fixture
def first(tmp_path: Path, sandbox: Sandbox, store_url: str) -> Cli:
    return cli(tmp_path / "first", sandbox, store_url)


@pytest.fixture
def second(tmp_path: Path, sandbox: Sandbox, store_url: str) -> Cli:
    return cli(tmp_path / "second", sandbox, store_url)


@contextmanager
def both(first: Cli, second: Cli) -> Iterator[tuple[Serving, Serving]]:
    with first.forked() as one, second.forked() as other:
        yield one, other


@pytest.fixture
def records(store_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(store_url, decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_whose_pictures_the_first_cannot_read_is_refused(
    first: Cli, second: Cli, workers: str
) -> None:
    with first.forked():
        said = second.fork("serve", "--port", "0", "--workers", workers, code=1)

    assert "keeps its pictures in" in said
    assert str(first.path / ".koi/images") in said
    assert "KOI_IMAGE_STORE" in said
    assert "KOI_DATA_DIR/images" in said
    assert said.count("worker_died") <= int(workers)


def test_the_doctor_says_with_whose_settings_a_gateway_would_be_refused(
    first: Cli, second: Cli
) -> None:
    with first.forked():
        [finding] = [f for f in second.json("doctor") if f["check"] == "gateways"]

    assert finding["status"] == "warn"
    assert "would be refused" in finding["text"]


def test_gateways_that_share_a_directory_open_each_others_links(first: Cli, second: Cli) -> None:
    shared = first.path / ".koi/images"
    shared.mkdir(parents=True)
    (second.path / ".koi").mkdir()
    (second.path / ".koi/images").symlink_to(shared)  # as a mount does it
    with both(first, second) as (one, other):
        key = first.text("keys", "create", "--user", "ann", "--new").strip()
        made = [generate(url, key, url).json()["data"][0]["url"] for url in (one.url, other.url)]
        for link in made:
            path = httpx.URL(link).raw_path.decode()
            assert [httpx.get(f"{at.url}{path}").status_code for at in (one, other)] == [200, 200]
        [finding] = [
            f for f in json.loads(first.text("doctor", "--json")) if f["check"] == "gateways"
        ]
        assert finding["status"] == "ok"
        assert "in the last 30 s: 2;" in finding["text"]


def test_a_restart_and_a_new_disk_after_an_orderly_end_are_fine(first: Cli, second: Cli) -> None:
    with first.forked() as serving:
        assert serving.stop() == 0
    with first.forked() as serving:
        assert serving.stop() == 0

    with second.forked() as serving:
        assert serving.stop() == 0


def test_a_gateway_that_died_keeps_nobody_out_for_longer_than_it_takes_to_notice(
    first: Cli, second: Cli, records: "redis.Redis"
) -> None:
    with first.forked():
        pass  # killed
    second.fork("serve", "--port", "0", code=1)
    [(name, text)] = records.hgetall(GATEWAYS).items()
    record = json.loads(text)
    records.hset(GATEWAYS, name, json.dumps(record | {"last": record["last"] - 31_000}))

    with second.forked() as serving:
        assert serving.stop() == 0
    assert records.hgetall(GATEWAYS) == {}


def test_two_that_started_while_the_store_was_away_are_named_and_serve_on(
    first: Cli, second: Cli, records: "redis.Redis"
) -> None:
    with first.forked() as one:
        [text] = records.hvals(GATEWAYS)
        stranger = {"id": "f" * 16, "host": "elsewhere", "images": "file:1", "place": "/their/disk"}
        record = json.loads(text)
        records.hset(GATEWAYS, "f" * 16, json.dumps(stranger | {"last": record["last"] + 10_000}))

        [line] = one.wait_for("image_store_not_shared")
        assert line["place"] == "/their/disk"
        assert httpx.get(f"{one.url}/readyz").status_code == 200
        [finding] = [f for f in first.json("doctor", code=1) if f["check"] == "gateways"]
    assert finding["status"] == "fail"
    assert "/their/disk on elsewhere" in finding["text"]


def test_a_store_that_is_away_does_not_stop_the_start(
    tmp_path: Path, sandbox: Sandbox, store_url: str
) -> None:
    away = cli(tmp_path / "away", sandbox, f"unix://{tmp_path}/nobody.sock")

    with away.forked(ready=False) as serving:
        assert httpx.get(f"{serving.url}/livez").status_code == 200


def test_the_marker_is_made_once_and_never_written_over(first: Cli) -> None:
    marker = first.path / ".koi/images/store-id"
    with first.forked() as serving:
        before = marker.read_text()
        assert serving.stop() == 0
    marker.chmod(0o400)
    with first.forked() as serving:
        assert serving.stop() == 0
    assert marker.read_text() == before

    marker.chmod(0o600)
    marker.write_text("")
    assert "damaged" in first.fork("serve", "--port", "0", code=1)
    assert marker.read_text() == ""
