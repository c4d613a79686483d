"""Keys, users and teams: found quickly, revoked quickly, remembered when the store is away."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from store_rig import NOTE, Engine, OpenStore, keyring_on, principal, scripts_on

from app.adapters.redis import records
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.directory import RedisDirectory
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.spend_alerts import RedisSpendAlerts
from app.domain.administration import Conflict
from app.domain.catalog import parse_catalog
from app.domain.errors import LedgerUnavailable
from app.domain.holders import KeyManagement
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.principal import ApiKey, CachePolicy, Team, User
from app.domain.spend_alerts import SpendAlert
from app.service.holder_keys import HolderKeys
from app.service.keys import KeyAdmin
from app.service.people import People
from app.service.welcome import Newcomer, welcome
from app.wiring.catalog_file import DEFAULT_CATALOG_PATH

DIGEST = hashlib.sha256(b"sk-koi-1").hexdigest()
LIMITS = Limits(images_per_day=5, micros_per_month=10**15, concurrency=0)
TEAM = Team("art", Limits(images_per_month=100), 1)
ANN = User("ann", LIMITS, 2, team="art", cache=CachePolicy.SHARED)
BOB = User("bob", Limits(), 3)
KEY = ApiKey("key_1", "ann", DIGEST, "laptop", Limits(), 4, models=frozenset({"b", "a"}))


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def ring(engine: Engine, open_store: OpenStore, watch: Watch) -> RedisKeyRing:
    ring = keyring_on(open_store(engine.url), watch)
    await filled(ring)
    return ring


async def filled(ring: RedisKeyRing) -> None:
    await ring.save_team(TEAM, NOTE, create=True)
    await ring.save_user(ANN, NOTE, create=True)
    await ring.save_user(BOB, NOTE, create=True)
    await ring.save_key(KEY, NOTE)


async def test_a_key_leads_to_its_user_and_team(ring: RedisKeyRing) -> None:
    assert await ring.authenticate(DIGEST) == (KEY, ANN, TEAM)


async def test_a_user_without_a_team(ring: RedisKeyRing) -> None:
    key = replace(KEY, id="key_2", user="bob", digest="2" * 64, models=None)
    await ring.save_key(key, NOTE)

    assert await ring.authenticate("2" * 64) == (key, BOB, None)


async def test_a_key_that_many_use_at_once_is_looked_up_once(
    engine: Engine, open_store: OpenStore, ring: RedisKeyRing, watch: Watch
) -> None:
    asked: list[str] = []
    busy = keyring_on(open_store(engine.url, observe=lambda name, *_: asked.append(name)), watch)
    impatient = asyncio.create_task(busy.authenticate(DIGEST))
    await asyncio.sleep(0)
    rest = asyncio.gather(*(busy.authenticate(DIGEST) for _ in range(50)))
    await asyncio.sleep(0)
    impatient.cancel()

    assert await rest == [(KEY, ANN, TEAM)] * 50
    assert asked.count("lookup_key") == 1
    watch.now += 3.1
    assert await busy.authenticate(DIGEST) == (KEY, ANN, TEAM)
    assert asked.count("lookup_key") == 2


async def test_only_the_whole_digest_opens(ring: RedisKeyRing) -> None:
    for wrong in (DIGEST[:-1], DIGEST[:-1] + "x", DIGEST.upper(), "", "*"):
        assert await ring.authenticate(wrong) is None


@pytest.mark.parametrize("end", ["expires_ms", "revoked_ms"])
async def test_a_key_past_its_end_opens_nothing(ring: RedisKeyRing, end: str) -> None:
    await ring.save_key(replace(KEY, **{end: await ring.now_ms()}), NOTE)

    assert await ring.authenticate(DIGEST) is None


async def test_a_key_expires_between_two_reads_of_the_store(
    ring: RedisKeyRing, watch: Watch
) -> None:
    await ring.save_key(replace(KEY, expires_ms=await ring.now_ms() + 2800), NOTE)
    assert await ring.authenticate(DIGEST) is not None

    watch.now += 2.9

    assert await ring.authenticate(DIGEST) is None


async def test_a_revocation_reaches_every_process_within_three_seconds(
    engine: Engine, open_store: OpenStore, ring: RedisKeyRing, watch: Watch
) -> None:
    other = keyring_on(open_store(engine.url))
    assert await ring.authenticate(DIGEST) is not None

    await other.save_key(replace(KEY, revoked_ms=await other.now_ms()), NOTE)

    watch.now += 2.9
    assert await ring.authenticate(DIGEST) is not None
    watch.now += 0.2
    assert await ring.authenticate(DIGEST) is None


async def test_a_new_key_works_within_three_seconds_of_a_failed_try(
    engine: Engine, open_store: OpenStore, ring: RedisKeyRing, watch: Watch
) -> None:
    assert await ring.authenticate("9" * 64) is None
    await keyring_on(open_store(engine.url)).save_key(replace(KEY, id="k9", digest="9" * 64), NOTE)

    watch.now += 3.1

    assert await ring.authenticate("9" * 64) is not None


async def test_this_process_sees_its_own_changes_at_once(ring: RedisKeyRing) -> None:
    await ring.authenticate(DIGEST)

    await ring.save_user(replace(ANN, limits=Limits(images_per_day=1)), NOTE, create=False)

    found = await ring.authenticate(DIGEST)
    assert found is not None
    assert found[1].limits.images_per_day == 1


async def test_a_rotated_key_opens_with_its_new_secret_only(ring: RedisKeyRing) -> None:
    await ring.save_key(replace(KEY, digest="7" * 64), NOTE)

    assert await ring.authenticate(DIGEST) is None
    assert await ring.authenticate("7" * 64) is not None


async def test_a_known_key_stays_known_for_a_minute_without_the_store(
    own_engine: Engine, open_store: OpenStore, watch: Watch
) -> None:
    ring = keyring_on(open_store(own_engine.url), watch)
    await filled(ring)
    await ring.authenticate(DIGEST)
    own_engine.stop()

    watch.now += 59
    assert await ring.authenticate(DIGEST) == (KEY, ANN, TEAM)
    watch.now += 2
    with pytest.raises(LedgerUnavailable):
        await ring.authenticate(DIGEST)


async def test_a_stranger_is_told_nothing_without_the_store(
    own_engine: Engine, open_store: OpenStore, watch: Watch
) -> None:
    ring = keyring_on(open_store(own_engine.url), watch)
    await ring.authenticate("8" * 64)
    own_engine.stop()
    watch.now += 4

    for digest in ("8" * 64, DIGEST):
        with pytest.raises(LedgerUnavailable):
            await ring.authenticate(digest)


async def test_a_flushed_store_does_not_turn_callers_away_as_strangers(
    engine: Engine, open_store: OpenStore, ring: RedisKeyRing, watch: Watch
) -> None:
    """401 would make them throw their keys away; 503 says whose trouble it is."""
    await ring.authenticate(DIGEST)
    with engine.client() as admin:
        admin.flushall()
    watch.now += 61

    with pytest.raises(LedgerUnavailable, match="lost its data"):
        await ring.authenticate(DIGEST)


async def test_guesses_do_not_push_known_keys_out_of_memory(
    own_engine: Engine, open_store: OpenStore, watch: Watch
) -> None:
    ring = keyring_on(open_store(own_engine.url), watch)
    await filled(ring)
    await ring.authenticate(DIGEST)
    for guess in range(1100):
        await ring.authenticate(f"{guess:064}")
    own_engine.stop()
    watch.now += 5

    assert await ring.authenticate(DIGEST) is not None
    assert len(ring._cache._unknown) == 1000


async def test_records_survive_the_round_trip(ring: RedisKeyRing) -> None:
    assert (await ring.user("ann"), await ring.team("art")) == (ANN, TEAM)
    assert await ring.key("key_1") == KEY
    assert (await ring.users(), await ring.teams()) == ([ANN, BOB], [TEAM])
    assert (await ring.keys(), await ring.keys("bob")) == ([KEY], [])
    assert await ring.user("nobody") is await ring.team("none") is await ring.key("none") is None


async def test_creating_twice_and_changing_nobody(ring: RedisKeyRing) -> None:
    assert not await ring.save_user(replace(ANN, team=None), NOTE, create=True)
    assert not await ring.save_user(replace(ANN, name="nobody"), NOTE, create=False)
    assert not await ring.save_team(replace(TEAM, created_ms=9), NOTE, create=True)
    assert await ring.save_team(replace(TEAM, created_ms=9), NOTE, create=False)

    assert await ring.user("ann") == ANN
    assert await ring.user("nobody") is None
    assert (await ring.team("art")) == replace(TEAM, created_ms=9)


async def test_response_formats_survive_the_round_trip(ring: RedisKeyRing) -> None:
    user = replace(ANN, response_format=ResponseFormat.BOTH)
    key = replace(KEY, response_format=ResponseFormat.B64_JSON)
    await ring.save_user(user, NOTE, create=False)
    await ring.save_key(key, NOTE)

    assert await ring.authenticate(DIGEST) == (key, user, TEAM)


@pytest.mark.parametrize("record", [ANN, BOB, KEY, TEAM])
def test_a_field_that_is_not_set_is_not_written_for_older_gateways_to_stumble_over(
    record: User | ApiKey | Team,
) -> None:
    assert "response_format" not in json.loads(records.write(record))


def test_records_from_before_the_field_are_read() -> None:
    user = json.loads(records.write(ANN))
    key = json.loads(records.write(KEY))

    assert records.read_user(json.dumps(user)) == ANN
    assert records.read_key(json.dumps(key)) == KEY


def test_records_of_a_later_version_are_read_as_far_as_they_are_known() -> None:
    later = {"colour": "red", "response_format": "hologram"}
    user = {**json.loads(records.write(ANN)), **later, "cache": "planet-wide"}
    user["limits"]["pictures_per_second"] = 1
    key = {**json.loads(records.write(KEY)), **later}
    team = {**json.loads(records.write(TEAM)), **later}

    assert records.read_user(json.dumps(user)) == replace(ANN, cache=CachePolicy.OFF)
    assert records.read_key(json.dumps(key)) == KEY
    assert records.read_team(json.dumps(team)) == TEAM


async def test_what_somebody_else_changed_meanwhile_is_not_written_over(
    ring: RedisKeyRing,
) -> None:
    revoked = replace(KEY, revoked_ms=await ring.now_ms())
    lowered = replace(ANN, limits=Limits(images_per_day=0))
    archived = replace(TEAM, archived_ms=1)
    await ring.save_key(revoked, NOTE, before=KEY)
    await ring.save_user(lowered, NOTE, create=False, before=ANN)
    await ring.save_team(archived, NOTE, create=False, before=TEAM)

    with pytest.raises(Conflict):
        await ring.save_key(replace(KEY, name="again"), NOTE, before=KEY)
    with pytest.raises(Conflict):
        await ring.save_user(replace(ANN, title="Ann"), NOTE, create=False, before=ANN)
    with pytest.raises(Conflict):
        await ring.save_team(replace(TEAM, title="Blue"), NOTE, create=False, before=TEAM)

    assert await ring.key(KEY.id) == revoked
    assert await ring.user(ANN.name) == lowered
    assert await ring.team(TEAM.name) == archived
    assert await ring.save_user(replace(lowered, title="Ann"), NOTE, create=False, before=lowered)


async def test_a_secret_is_one_keys_also_when_that_was_revoked(ring: RedisKeyRing) -> None:
    await ring.save_key(replace(KEY, revoked_ms=await ring.now_ms()), NOTE)

    with pytest.raises(Conflict):
        await ring.save_key(replace(KEY, id="key_other"), NOTE)

    assert await ring.authenticate(DIGEST) is None


class Directed(RedisKeyRing):
    """Parses the keys of the whole deployment for nobody."""

    async def keys(self, user: str | None = None) -> Sequence[ApiKey]:
        raise AssertionError(f"all keys were read for those of {user}")


async def test_a_holders_keys_are_found_without_parsing_everybodys(store: BatchingStore) -> None:
    scripts = scripts_on(store)
    ring = Directed(scripts)
    await filled(ring)
    catalog = parse_catalog(DEFAULT_CATALOG_PATH.read_text())
    keys, directory = KeyAdmin(ring, catalog, Limits(), NOTE.actor), RedisDirectory(scripts)
    holder = HolderKeys(keys, directory, KeyManagement.ALL)
    me = principal(names=(KEY.id, "ann", "art"))

    assert [key.id for key in await holder.list(me)] == [KEY.id]
    assert await holder.last_used([KEY]) == {}
    rotated = await holder.rotate(me, KEY.id, timedelta())
    assert [key.digest for key in await holder.list(me)] == [rotated.key.digest]
    newcomer = Newcomer("ann", team="art", key_name="laptop")
    assert (await welcome(keys, People(directory, keys), newcomer)).key.id == KEY.id


async def test_an_update_beside_a_deletion_brings_no_spend_alert_back(store: BatchingStore) -> None:
    scripts = scripts_on(store)
    alerts = RedisSpendAlerts(scripts, RedisKeyRing(scripts))
    alert = SpendAlert("alert_1", "house", 5, ("ops@koi.test",), "", 1)
    await alerts.save(alert, NOTE)
    await alerts.save(replace(alert, deleted_ms=2), NOTE, before=alert)

    with pytest.raises(Conflict):
        await alerts.save(replace(alert, threshold_micros=6), NOTE, before=alert)
    assert await alerts.alerts() == []
