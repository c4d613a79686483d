"""What was added to a job or taken from it through several gateways survives loss of the store."""

import json

import pytest
from store_rig import Engine, OpenStore, admission, delivered, principal, started
from test_deliveries import claimed, hook
from test_ledger_rebuild import LOST, Host, empty

from app.adapters.redis.deliveries import RedisDeliveryQueue
from app.domain.errors import LedgerUnavailable
from app.recovery.merge import merge_accounts, overwrite


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
