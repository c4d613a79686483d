"""Golden records of the stored formats: this version reads them, and writes the same.

The files in `golden/store` were written by a real run. A running deployment upgrades by restarting,
so a change of one of them needs a migration, or a reader for both.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from store_rig import (
    NOTE,
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    principal,
    scripts_on,
    started,
)

from app.adapters.journal.outbox import FileOutbox
from app.adapters.journal.reader import parse_record
from app.adapters.redis import codec, records
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.registry import GatewayRegistry
from app.domain.cache import CacheControl, CacheOutcome
from app.domain.images import Picture, digest
from app.domain.job import CacheVariant, TaskStatus
from app.domain.ledger import DedupKeys
from app.domain.limits import SpendingStop

GOLDEN = Path(__file__).parents[1] / "golden" / "store"
JOB = "koi:1:{ledger}:job:"


def golden(name: str) -> Any:
    return orjson.loads((GOLDEN / name).read_bytes())


JOBS: dict[str, dict[str, str]] = golden("jobs.json")
DEFAULTS = {
    field.stored: field.write(field.default)
    for field in codec.JOB_FIELDS
    if field.default not in (codec.REQUIRED, None)
}
READ_BACK = {field.stored for field in (*codec.JOB_FIELDS, *codec.COLLECTING_FIELDS)} | {"parts"}
READ_BACK_OF_PARTS = tuple(f"{field.stored}:" for field in codec.PART_FIELDS)


def decoded_fields(record: dict[str, str]) -> dict[str, str]:
    """What the codec reads of a job's record; a field that holds its default says nothing."""
    per_image = (codec.PENDING,) if record["state"] != "S" or "collecting" in record else ()
    return {
        field: text
        for field, text in record.items()
        if (field in READ_BACK or field.startswith((*READ_BACK_OF_PARTS, *per_image)))
        and text != DEFAULTS.get(field)
    }


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_read_and_written_the_same(name: str) -> None:
    job = codec.read_job(JOBS[name])
    written = codec.write_job(job)
    expected = decoded_fields(JOBS[name])

    late = codec.read_late_pictures(JOBS[name])
    if late:
        assert set(late) <= set(job.pictures)
        written.pop("pictures"), expected.pop("pictures")
    assert written == expected


def test_every_way_a_job_can_stand_is_read() -> None:
    jobs = {name: codec.read_job(record) for name, record in JOBS.items()}

    assert jobs["reserved"].cache_variant == CacheVariant("f" * 64, 1)
    assert [part.n for part in jobs["reserved"].parts] == [2, 1]
    assert jobs["dispatched"].parts[0].anomaly is not None
    assert jobs["dispatched"].parts[0].denied == 1
    assert jobs["dispatched"].parts[1].result is not None
    assert [image.expires_ms for image in jobs["collecting"].pending] == [1795914299000]
    assert jobs["collecting"].collecting is not None
    assert jobs["collecting"].collecting.last_error == "no answer"
    assert len(jobs["collected"].pictures) == 2
    assert jobs["lost"].status is TaskStatus.COMPLETED
    assert jobs["unknown"].failure is not None
    assert jobs["presumed"].billed == 1


@pytest.mark.parametrize(("id", "record"), golden("entries.json"))
def test_an_entry_is_read_and_written_the_same(id: str, record: dict[str, str]) -> None:
    entry = codec.read_entry(id, record)

    assert codec.write_entry(entry) == record
    assert entry.at_ms == int(id.partition("-")[0])


async def test_the_scripts_write_the_fields_of_the_golden_records_and_no_others(
    engine: Engine, store: BatchingStore
) -> None:
    ledger = ledger_on(store)
    who = principal(names=("key_1", "ann", "art"))
    wanted = admission(who, idempotency_key="1" * 64, cache_variant=CacheVariant("f" * 64, 1))
    await started(ledger, wanted)
    await ledger.record_part(wanted.job_id, 0, upstream_id="up", request_id="req", due_ms=1)
    with engine.client() as admin:
        opened = set(admin.hgetall(JOB + wanted.job_id))
        await ledger.settle(wanted.job_id, delivered(1, surplus=1))
        ended = set(admin.hgetall(JOB + wanted.job_id))
        [(_, entry)] = admin.xrange("koi:1:{ledger}:stream")
        replay = admin.hgetall("koi:1:{ledger}:replay:" + "1" * 64)

    assert opened <= set(JOBS["dispatched"])
    assert "provider" not in {*opened, *entry}  # the main one is not named
    assert ended <= set(JOBS["collecting"])
    known = {field for _, record in golden("entries.json") for field in record}
    assert set(entry) <= known
    [idempotency] = golden("idempotency.json").values()
    assert set(replay) == set(idempotency)
    assert replay == {"job": wanted.job_id, "body": wanted.dedup_keys.body}


def test_a_job_that_was_tidied_is_read_with_its_pictures() -> None:
    [job] = map(codec.read_job, golden("tidied_jobs.json").values())

    assert job.pictures == (
        Picture("img_a", "image/png", 1024, 1024, 'a "koi" / 星'),
        Picture("img_b", "image/svg+xml", None, None),
    )
    assert (job.progress, job.calls, job.dispatched_ms) == (100, (), None)


async def test_what_a_request_said_is_written_as_in_the_golden_records(
    engine: Engine, store: BatchingStore
) -> None:
    ledger = ledger_on(store, attributed=1)
    job, [_, entry] = JOBS["attributed"], golden("entries.json")[-1]
    said = codec.read_job(job).attribution
    assert said is not None
    await ledger.admit(admission(attribution=replace(said, tag="first")))
    wanted = admission(attribution=said)
    await started(ledger, wanted)
    await ledger.settle(wanted.job_id, delivered(1))
    with engine.client() as admin:
        [(_, written)] = admin.xrange("koi:1:{ledger}:stream")
        record = admin.hgetall(JOB + wanted.job_id)

    assert record["attribution"] == job["attribution"]
    for text in (record["counted_as"], written["attribution"]):
        assert orjson.loads(text) == orjson.loads(entry["attribution"])


async def test_the_provider_of_a_job_is_in_its_record_and_in_its_entry(
    engine: Engine, store: BatchingStore
) -> None:
    ledger = ledger_on(store)
    wanted = admission(provider="second")
    job_id = await started(ledger, wanted)
    await ledger.settle(job_id, delivered(1))
    with engine.client() as admin:
        record = admin.hgetall(JOB + job_id)
        [(_, entry)] = admin.xrange("koi:1:{ledger}:stream")

    assert record["provider"] == entry["provider"] == "second"
    assert set(entry) <= {field for _, known in golden("entries.json") for field in known}
    assert codec.read_job(JOBS["at_second_provider"]).provider == "second"
    assert codec.read_job(JOBS["dispatched"]).provider is None


async def test_an_idempotency_record_still_means_its_job(
    engine: Engine, store: BatchingStore
) -> None:
    [(key, replay)] = golden("idempotency.json").items()
    ledger = ledger_on(store)
    with engine.client() as admin:
        admin.hset(JOB + replay["job"], mapping=JOBS["reserved"])
        admin.hset(f"koi:1:{{ledger}}:replay:{key}", mapping=replay)

    checked = await ledger.check_rate_limit(principal(), DedupKeys(replay["body"], key))

    assert checked.duplicate_of == replay["job"]


@pytest.mark.parametrize("family", ["users", "teams", "keys"])
def test_a_users_teams_or_keys_record_is_read_and_written_the_same(family: str) -> None:
    read: Any = {"users": records.read_user, "teams": records.read_team, "keys": records.read_key}
    for text in golden("records.json")[family].values():
        assert records.write(read[family](text)).decode() == text


async def test_stops_journals_and_gateways_are_read_and_written_the_same(
    engine: Engine, store: BatchingStore
) -> None:
    rows = golden("records.json")
    scripts = scripts_on(store)
    [(name, stop)] = rows["stops"].items()
    [(gateway_id, gateway)] = rows["gateways"].items()
    with engine.client() as admin:
        admin.hset("koi:1:{ledger}:stops", mapping=rows["stops"])
        now_ms = await scripts.now_ms()
        alive = orjson.dumps(orjson.loads(gateway) | {"last": now_ms})
        admin.hset("koi:1:{ledger}:gateways", gateway_id, alive)

        [stopped] = await RedisKeyRing(scripts).stops()
        assert stopped == SpendingStop(name, "Too much.", 1795914200000)
        await RedisKeyRing(scripts).save_stop(stopped, NOTE, stopped=True)
        assert admin.hgetall("koi:1:{ledger}:stops") == {name: stop}

        registry = GatewayRegistry(scripts)
        [found] = await registry.list_alive()
        assert (found.id, found.host, found.images) == (gateway_id, "host", "file:1")
        await registry.heartbeat(found)
        written = admin.hget("koi:1:{ledger}:gateways", gateway_id)
        assert orjson.loads(written).keys() == orjson.loads(gateway).keys()
    [journal] = map(records.read_journal, rows["journals"].values())
    assert (journal.host, journal.path, journal.copied) == ("host", "/data/journal", "1-0")


def test_a_journal_line_is_read_and_written_the_same() -> None:
    for line in (GOLDEN / "journal.jsonl").read_bytes().splitlines():
        record = parse_record(line)

        assert record is not None
        # Numbers among the fields are text once read: that is all that may differ.
        row = orjson.loads(line)
        for change in row["changes"]:
            change["fields"] = [str(field) for field in change["fields"]]
        assert orjson.dumps(record) == orjson.dumps(row)


async def test_an_outbox_file_is_read_and_written_the_same(tmp_path: Path) -> None:
    written = FileOutbox(tmp_path)
    for message in await FileOutbox(GOLDEN / "outbox").pending():
        await written.enqueue(message)

    bodies = {file.name: file.read_bytes() for file in (GOLDEN / "outbox").iterdir()}
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.json")} == bodies


async def test_a_cache_entry_is_read_and_written_the_same(
    engine: Engine, open_store: OpenStore
) -> None:
    entry = golden("cache.json")
    maker, _, rest = entry["0"].partition(" ")
    made_ms, _, text = rest.partition(" ")
    age_ms = int(time.time() * 1000) - int(made_ms)
    cache = RedisResultCache(
        open_store(engine.url, timeout_s=2), ttl_s=age_ms // 1000 + 3600, variants=1, lease_s=60
    )
    key = f"koi:1:cache:{{{digest('golden')}}}:pictures"
    with engine.client() as admin:
        admin.hset(key, "0", entry["0"])

        found = await cache.look_up(digest("golden"), "another", CacheControl())
        assert (found.outcome, found.job_id) == (CacheOutcome.HIT, maker)
        assert found.made_ms == int(made_ms)
        assert found.cache_variant is not None
        await cache.fill(found.cache_variant, maker, found.pictures)

        written = admin.hget(key, "0")
    assert written is not None
    assert (written.partition(" ")[0], written.split(" ", 2)[2]) == (maker, text)
