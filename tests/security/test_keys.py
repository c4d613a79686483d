"""Keys: what a guess costs, what a refusal tells, how soon a revocation holds (S11-S18)."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import redis

from app.sandbox.server import Sandbox
from app.service.keys import new_secret
from app.wiring.operator import OperatorContext
from tests.flow.command import Cli, served_by
from tests.flow.conftest import Start
from tests.harness import Koi
from tests.security.samples import gap, interleaved, welch_t
from tests.security.test_roles import ADMIN_KEY
from tests.security.trap import eventually

MODELS = "/v1/models"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def _ended(operator: OperatorContext, number: int) -> dict[str, list[str]]:
    """So many keys that were revoked, and that have expired."""
    ended: dict[str, list[str]] = {"revoked": [], "expired": []}
    for _ in range(number):
        issued = await operator.keys.issue("ann")
        await operator.keys.revoke(issued.key.id)
        ended["revoked"].append(issued.secret)
        late = await operator.keys.issue("ann", expires_in=timedelta(seconds=-1))
        ended["expired"].append(late.secret)
    return ended


def refusals(koi: Koi, number: int) -> dict[str, list[str]]:
    """Secrets of every kind that is refused; each is used once, so that each costs the most."""
    ended = koi.operate(lambda operator: _ended(operator, number))
    return {
        "unknown": [new_secret() for _ in range(number)],
        "again": [new_secret() for _ in range(number)],
        "malformed": [f"koi-{secrets.token_hex(20)}" for _ in range(number)],
        **ended,
    }


def timed(koi: Koi, number: int) -> dict[str, list[float]]:
    kinds = refusals(koi, number)
    with httpx.Client(base_url=koi.url, timeout=20) as client:

        def use(left: list[str]) -> Callable[[], None]:
            def ask() -> None:
                assert client.get(MODELS, headers=bearer(left.pop())).status_code == 401

            return ask

        for _ in range(20):
            client.get(MODELS, headers=bearer(new_secret()))
        times = interleaved([use(kind) for kind in kinds.values()], number)
    return dict(zip(kinds, times, strict=True))


def test_a_refusal_says_the_same_and_takes_as_long_whatever_is_wrong_with_the_key(
    koi: Koi,
) -> None:
    """S14: an unknown key is compared with itself, which says what noise is here today."""
    times = timed(koi, 150)
    noise = gap(times["unknown"], times["again"])

    for kind in ("malformed", "revoked", "expired"):
        assert gap(times["unknown"], times[kind]) < 0.6 + 2 * noise, (kind, noise)


@pytest.mark.chaos
def test_ten_thousand_refusals_cannot_be_told_apart(koi: Koi) -> None:
    """Beyond |t| = 4.5 a difference is taken for real (Reparaz and others, 2017)."""
    times = timed(koi, 10_000)
    told = {kind: welch_t(times["unknown"], times[kind]) for kind in times}
    for kind, t in told.items():
        print(f"401 {kind:>9}: t = {t:+.2f} against unknown, 10,000 samples each")

    assert max(map(abs, told.values())) < 4.5


def test_a_guess_writes_nothing_costs_little_and_pushes_out_no_known_key(
    koi: Koi, store_url: str
) -> None:
    """S13: a flood of unknown keys reads once each, and the known keys stay known."""
    known = koi.key()

    async def guess(number: int) -> set[int]:
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=koi.url, timeout=60, limits=limits) as client:
            calls = [client.get(MODELS, headers=bearer(new_secret())) for _ in range(number)]
            return {answer.status_code for answer in await asyncio.gather(*calls)}

    with httpx.Client(base_url=koi.url) as client, redis.Redis.from_url(store_url) as store:
        assert client.get(MODELS, headers=bearer(known)).status_code == 200
        commands = ("cmdstat_set", "cmdstat_hset", "cmdstat_zadd", "cmdstat_incr")
        written = [store.info("commandstats").get(name) for name in commands]
        size = store.dbsize()
        assert asyncio.run(guess(300)) == {401}
        after = [store.info("commandstats").get(name) for name in commands]

        assert store.dbsize() == size
        grown = sum(_calls(stat) for stat in after) - sum(_calls(stat) for stat in written)
        assert grown < 100  # for 300 guesses: gateways announce themselves every few seconds
        assert client.get(MODELS, headers=bearer(known)).status_code == 200


def _calls(stat: dict[str, int] | None) -> int:
    return 0 if stat is None else stat["calls"]


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key + key[-1],
        lambda key: key[:-1] + chr(ord(key[-1]) ^ 1),
        lambda key: key[:40] + "0" * (len(key) - 40),
        lambda key: key.swapcase(),
        lambda key: f"{key}{key}",
        lambda key: key.removeprefix("sk-koi-"),
        lambda key: f"%73{key[1:]}",
    ],
    ids=range(8),
)
def test_a_key_that_is_nearly_right_is_wrong(koi: Koi, change: Callable[[str], str]) -> None:
    """S12: no prefix, suffix, length or spelling of a key stands for it."""
    key = koi.key()

    assert httpx.get(f"{koi.url}{MODELS}", headers=bearer(key)).status_code == 200
    assert httpx.get(f"{koi.url}{MODELS}", headers=bearer(change(key))).status_code == 401


INJECTIONS = [
    "' OR '1'='1", "key_1\"}", "*", "koi:1:{ledger}:keys", "]]..redis.call('FLUSHALL')..[[",
    "*3\\r\\n$3\\r\\nSET", "../../keys", "{ledger}", "__proto__", "null", "0" * 64, "\u00e9",
]  # fmt: skip


@pytest.mark.parametrize("secret", INJECTIONS)
def test_no_text_in_a_key_is_more_than_a_wrong_key(koi: Koi, secret: str) -> None:
    """S58: what a caller sends is hashed before anything looks at it."""
    raw = secret.encode("latin-1", "replace")
    answer = httpx.get(f"{koi.url}{MODELS}", headers=[(b"authorization", b"Bearer " + raw)])

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_revoked_key_ends_on_every_worker_within_five_seconds(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """S15, by the command an operator would use, while the key is in use."""
    settings = served_by(sandbox.url)
    cli = Cli(tmp_path, settings)
    created = cli.json("keys", "create", "--user", "ann", "--new")
    headers = bearer(created["key"]) | {"connection": "close"}
    with cli.forked("--workers", "2") as serving:
        serving.wait_for("worker_ready", times=2)

        def answers(number: int) -> set[int]:
            url = f"{serving.url}{MODELS}"
            return {httpx.get(url, headers=headers).status_code for _ in range(number)}

        assert answers(12) == {200}
        cli.text("keys", "revoke", created["key_id"])
        revoked = time.monotonic()
        eventually(lambda: answers(4) == {401}, within_s=20)
        # After five seconds not one worker knows it any more.
        time.sleep(max(0.0, revoked + 5 - time.monotonic()))
        assert answers(12) == {401}


def test_there_is_nobody_before_an_operator_has_made_somebody(start: Start) -> None:
    """S17: no default user, no first visit that makes one; S16: and no default secret."""
    koi = start(host="0.0.0.0")
    with httpx.Client(base_url=koi.url) as client:
        for secret in ("x", "sk-1234", "admin", "changeme", "sk-koi-", "sk-sandbox", ADMIN_KEY):
            for path in (MODELS, "/metrics", "/v1/organization/costs?start_time=1"):
                assert client.get(path, headers=bearer(secret)).status_code in (401, 404)
        for path in ("/setup", "/login", "/admin", "/register", "/v1/users", "/v1/keys"):
            for method in ("GET", "POST"):
                assert client.request(method, path).status_code == 404
    assert koi.operate(lambda operator: operator.keys.users()) == []
