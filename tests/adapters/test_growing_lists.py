"""What was added to a job or taken from it through several gateways survives loss of the store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from store_rig import Engine, OpenStore, admission, delivered, principal, started
from test_deliveries import claimed, hook
from test_ledger_rebuild import LOST, Host, empty

from app.adapters.redis.codec import flatten
from app.adapters.redis.deliveries import RedisDeliveryQueue
from app.domain.errors import LedgerUnavailable
from app.domain.principal import CachePolicy
from app.recovery.backup_file import RowKind
from app.recovery.merge import merge_accounts, overwrite
from app.recovery.pictures import PictureRestorer


@pytest.fixture
def gateways(engine: Engine, open_store: OpenStore) -> list[Host]:
    return [Host.on(open_store(engine.url)) for _ in range(2)]


@pytest.mark.parametrize("first", [0, 1])
async def test_webhooks_added_through_two_gateways_are_told_after_a_rebuild(
    engine: Engine, gateways: list[Host], first: int
) -> None:
    ours, theirs = gateways[first], gateways[1 - first]
    job_id = await started(gateways[0].ledger, admission(principal(), webhook=hook()))
    for host, url in zip(gateways, ("https://b.test/", "https://c.test/"), strict=True):
        await RedisDeliveryQueue(host.ledger._scripts).add_webhook(job_id, hook(url), None)
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())
    await ours.rebuild(theirs)
    await ours.ledger.settle(job_id, delivered(1))

    queue = RedisDeliveryQueue(ours.ledger._scripts)
    told = {one.url for one in await claimed(queue)}
    assert told == {"https://a.test/hook", "https://b.test/", "https://c.test/"}


@pytest.mark.parametrize("first", [0, 1])
async def test_pictures_deleted_through_two_gateways_stay_deleted_after_a_rebuild(
    engine: Engine, gateways: list[Host], first: int
) -> None:
    ours, theirs = gateways[first], gateways[1 - first]
    job_id = await started(gateways[0].ledger, admission(principal(), n=3))
    job = (await gateways[0].ledger.settle(job_id, delivered(3))).job
    names = [picture.name for picture in job.pictures]
    for host, name in zip(gateways, names[:2], strict=True):
        assert await host.ledger.delete_picture(name, "ann", job_id) is not None
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())
    await ours.rebuild(theirs)

    rebuilt = await ours.ledger.job(job_id)
    assert rebuilt is not None
    assert sorted(rebuilt.deleted) == sorted(names[:2])


def test_what_the_store_kept_and_a_journal_says_are_joined() -> None:
    hooks = [json.dumps([{"url": url, "user": "ann"} for url in urls]) for urls in ("ab", "ac")]
    stored = {"state": "S", "deleted": "one two", "hooks": hooks[0]}

    whole = merge_accounts(stored, {"state": "S", "deleted": "three one", "hooks": hooks[1]})

    assert sorted(whole["deleted"].split()) == ["one", "three", "two"]
    assert [hook["url"] for hook in json.loads(whole["hooks"])] == ["a", "b", "c"]
    assert overwrite({"deleted": "one"}, {"progress": "1"}) == {"deleted": "one", "progress": "1"}


@pytest.mark.parametrize("pool", ["user:ann", "team:art"])
async def test_a_deleted_picture_is_not_its_users_again_after_a_rebuild(
    engine: Engine, gateways: list[Host], pool: str
) -> None:
    host = gateways[0]
    wanted = admission(principal(), n=2)
    shared = replace(wanted.principal, cache=CachePolicy.SHARED)
    wanted = replace(wanted, principal=shared if pool == "team:art" else wanted.principal)
    job_id = await started(host.ledger, wanted)
    job = (await host.ledger.settle(job_id, delivered(2))).job
    gone, kept = [picture.name for picture in job.pictures]
    before = (await host.ledger._scripts.run("read_epoch"))["seq"]
    await host.ledger.delete_picture(gone, "ann", job_id)
    numbered = (await host.ledger._scripts.run("read_epoch"))["seq"] - before
    owner = await host.ledger.find_owner(gone)
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await host.ledger.admit(admission())
    await host.rebuild()

    assert job.pool == pool
    assert numbered == 1
    assert await host.ledger.find_owner(gone) == owner
    assert await host.ledger.find_owner(kept) == ("ann", pool)
    assert await host.ledger.delete_picture(gone, "ann", job_id) is None


async def test_a_picture_deleted_while_the_backup_was_written_is_not_restored(
    tmp_path: Path,
) -> None:
    names = [f"img_{letter * 32}.png" for letter in "abc"]
    restorer = PictureRestorer(tmp_path)
    job = {"user": "ann", "pool": "user:ann", "deleted": " ".join(names[:2])}

    await restorer.take([RowKind.PICTURE, names[0], 1_000, b"x"])
    await restorer.take([RowKind.JOB, flatten(job), 0])
    for name in names[1:]:
        await restorer.take([RowKind.PICTURE, name, 1_000, b"x"])

    assert restorer.restored == 1
    assert [file.name for file in tmp_path.rglob("img_*")] == [names[2]]
