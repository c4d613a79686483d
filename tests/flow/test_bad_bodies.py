"""Bad bodies against the whole gateway: refused by name, nothing dispatched or held."""

from urllib.parse import urlsplit

from tests.contract.bad_bodies import BODIES, assert_error
from tests.contract.door import Door
from tests.harness import Koi


def test_no_bad_body_reaches_the_provider_or_leaves_a_trace_in_the_ledger(koi: Koi) -> None:
    place = urlsplit(koi.url)
    door = Door(place.hostname or "", place.port or 0, key=koi.key())
    refused = [row for row in BODIES if row.status != 200]

    for row in refused:
        assert_error(door.post(row.body, row.headers), row.status, row.code, row.param)

    assert len(refused) > 50
    assert koi.sandbox.posts == 0
    assert koi.entries() == []
    assert koi.audit().open_jobs == 0


def test_what_is_only_unusual_is_served(koi: Koi) -> None:
    place = urlsplit(koi.url)
    door = Door(place.hostname or "", place.port or 0, key=koi.key())

    for row in BODIES:
        if row.status == 200:
            assert door.post(row.body, row.headers).status == 200, row.id
