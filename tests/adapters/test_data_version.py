"""A store whose data is of another version is refused, and an older one upgraded step by step.

Version 0 never existed: its golden store differs in one field from ours, so that the way from one
version to the next is walked before the first real step needs it.
"""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from store_rig import Engine, admission
from test_ledger_rebuild import Host, entries

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.errors import LedgerDataLost
from app.domain.other_store import DataVersionUnknown
from app.recovery.upgrade import UpgradeRefused, UpgradeStep, upgrade_store

GOLDEN = Path(__file__).parents[1] / "golden" / "data_version_0.json"


@pytest.fixture
def old_store(engine: Engine) -> Any:
    """The golden store of version 0, planted; what is in it."""
    golden = json.loads(GOLDEN.read_text())
    with engine.client() as admin:
        for noun in ("epoch", "seq", "data_version"):
            admin.set(keyspace.key(noun), golden[noun])
        admin.hset(keyspace.key("trail"), mapping=golden["trail"])
        for noun in ("users", "keys"):
            rows = {name: json.dumps(row) for name, row in golden[noun].items()}
            admin.hset(keyspace.key(noun), mapping=rows)
        digests = {row["digest"]: id for id, row in golden["keys"].items()}
        admin.hset(keyspace.key("digests"), mapping=digests)
        for id, row in golden["entries"].items():
            admin.xadd(keyspace.key("stream"), row, id=id)
    return golden


async def name_the_user(scripts: LedgerScripts) -> None:
    """Keys of version 0 call their user `owner`. Run twice, it changes nothing more."""
    renamed = {}
    for text in await scripts.records("keys"):
        row = orjson.loads(text)
        row["user"] = row.pop("owner", row.get("user"))
        renamed[row["id"]] = orjson.dumps(row).decode()
    await scripts.run("restore", orjson.dumps({"keys": renamed}))


STEPS = (UpgradeStep(0, name_the_user),)


async def test_a_store_of_an_earlier_version_is_refused_then_upgraded_and_goes_on(
    store: BatchingStore, old_store: Any
) -> None:
    host = Host.on(store)
    scripts = host.ledger._scripts
    for attempt in (host.ledger.admit(admission()), scripts.verify(), scripts.check_version()):
        with pytest.raises(DataVersionUnknown) as refused:
            await attempt
        assert (refused.value.found, refused.value.known) == (0, 1)

    assert await upgrade_store(scripts, STEPS) == 0
    assert await upgrade_store(scripts, STEPS) == 1

    assert await host.keyring.authenticate("1" * 64) is not None
    assert [entry.images for entry in await entries(host.ledger)] == [2]
    await host.ledger.admit(admission())
    assert (await host.ledger.audit(full=True)).difference == 0
    assert scripts.position is not None
    assert scripts.position.epoch != old_store["epoch"]


async def test_an_upgrade_that_was_interrupted_leaves_the_store_closed_and_runs_again(
    store: BatchingStore, old_store: Any
) -> None:
    host = Host.on(store)
    scripts = host.ledger._scripts

    async def stumble(scripts: LedgerScripts) -> None:
        await name_the_user(scripts)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await upgrade_store(scripts, (UpgradeStep(0, stumble),))
    found = await scripts.run("read_epoch")
    with pytest.raises(DataVersionUnknown):
        await host.ledger.admit(admission())

    assert (found["version"], found["suspect"]) == (0, "upgrading")
    await upgrade_store(scripts, STEPS)
    assert await host.keyring.authenticate("2" * 64) is not None


async def test_an_upgrade_needs_every_step_on_the_way_and_a_whole_ledger(
    engine: Engine, store: BatchingStore, old_store: Any
) -> None:
    scripts = Host.on(store).ledger._scripts

    with pytest.raises(UpgradeRefused, match="cannot upgrade data of version 0"):
        await upgrade_store(scripts)
    with engine.client() as admin:
        admin.set(keyspace.key("suspect"), "lost")
    with pytest.raises(LedgerDataLost):
        await upgrade_store(scripts, STEPS)


async def test_a_store_of_a_later_version_is_refused_by_everything(
    engine: Engine, store: BatchingStore
) -> None:
    host = Host.on(store)
    scripts = host.ledger._scripts
    await host.ledger.admit(admission())
    with engine.client() as admin:
        assert admin.get(keyspace.key("data_version")) == "1"
        admin.set(keyspace.key("data_version"), "2")
    restarted = Host.on(store, host.journal).ledger

    for attempt in (restarted.admit(admission()), scripts.verify(), upgrade_store(scripts)):
        with pytest.raises(DataVersionUnknown):
            await attempt
