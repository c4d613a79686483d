"""Two gateways on one store, told to stop in turn under load: no user ever notices."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.chaos.forks import Fork
from tests.chaos.posts import Posts
from tests.chaos.users import RoundRobin, Users
from tests.harness import PRICED, Koi, operator_settings
from tests.nginx import needs_nginx, nginx

MODES = ["auto", "sync"]
USERS = 12
TIME_SCALE = {"auto": 0.05, "sync": 0.2}
"""Sync generations of several seconds hold up a drain for longer than an SDK goes on asking."""
PATIENT: dict[str, Any] = {
    "upstream_api_key": "sk-sandbox",
    "upstream_timeout_s": 60,
    "upstream_poll_interval_s": 0.1,
    "drain_timeout_s": 40,
    "catalog": PRICED,
    "redis_timeout_ms": 10_000,
    "log_level": "error",
}


class Pair:
    """Two gateways, each restarted on its own port."""

    def __init__(self, settings: dict[str, Any], path: Path) -> None:
        self._settings, self._path = settings, path
        self.exit_codes: list[int | None] = []
        self.gateways = [Fork(settings, path / f"{number}.log") for number in range(2)]
        for gateway in self.gateways:
            wait_until_ready(gateway)

    @property
    def ports(self) -> list[int]:
        return [gateway.port for gateway in self.gateways]

    def restart(self, which: int) -> None:
        """SIGTERM, the end, a new start, and readiness: what a deploy does to one gateway."""
        before = self.gateways[which]
        before.term()
        self.exit_codes.append(before.ended(60))
        self.gateways[which] = Fork(self._settings, before.log, place=before.place)
        wait_until_ready(self.gateways[which])

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.kill()
            gateway.place.close()


def wait_until_ready(gateway: Fork) -> None:
    deadline = time.monotonic() + 30
    while httpx.get(f"{gateway.url}/readyz", timeout=30).status_code != 200:
        assert time.monotonic() < deadline, gateway.log.read_text()
        time.sleep(0.05)


@contextmanager
def deployed(mode: str, path: Path) -> Iterator[tuple[Pair, Koi]]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(time_scale=TIME_SCALE[mode]))
        sandbox.set(picture_style="plain")
        store = stack.enter_context(EmbeddedStore(path / "store"))
        settings = {
            **PATIENT,
            "upstream_base_url": sandbox.url,
            "upstream_mode": mode,
            "redis_url": store.url,
            "data_dir": path / "koi",
        }
        pair = Pair(settings, path)
        stack.callback(pair.close)
        yield pair, Koi("", sandbox, operator_settings(**settings))


async def restarted_under_load(
    pair: Pair, koi: Koi, users: Users, restarts: list[tuple[float, int]]
) -> None:
    """Restart gateways after these pauses while the users call; then everything must add up."""
    posts = Posts(koi.sandbox)
    stop, over = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(posts.watch(over))
    calling = asyncio.create_task(users.run(stop))
    for pause_s, which in restarts:
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(pair.restart, which)
    stop.set()
    await calling
    over.set()
    await watching
    posts.look()
    audit = await asyncio.to_thread(koi.settled, 60)
    entries = await asyncio.to_thread(koi.entries)
    again = [prompt for prompt in users.prompts if posts.by_prompt[prompt] != 1]

    assert users.failures == []
    assert again == []
    assert set(pair.exit_codes) == {0}
    assert audit.difference == 0
    assert sum(entry.presumed for entry in entries) == 0
    metered = sum(entry.images for entry in entries)
    assert metered == len(users.prompts) == koi.sandbox.billed_images


@needs_nginx
@pytest.mark.parametrize("mode", ["sync", pytest.param("auto", marks=pytest.mark.chaos)])
async def test_a_rolling_deploy_behind_nginx_fails_no_call(mode: str, tmp_path: Path) -> None:
    with deployed(mode, tmp_path) as (pair, koi), nginx(tmp_path, pair.ports) as port:
        key = await asyncio.to_thread(koi.key)
        url = f"http://127.0.0.1:{port}/v1"
        users = Users(url, key, USERS, httpx.AsyncHTTPTransport())

        await restarted_under_load(pair, koi, users, [(1, 0), (1, 1)])


@pytest.mark.parametrize(
    "moments",
    [pytest.param(3, id="short"), pytest.param(20, id="long", marks=pytest.mark.chaos)],
)
async def test_sigterm_at_any_moment_loses_no_settlement_and_sends_nothing_twice(
    moments: int, seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    print(f"seed={seed}")
    restarts = [(dice.uniform(0, 2), dice.randrange(2)) for _ in range(moments)]
    for mode in MODES:
        place = tmp_path / mode
        place.mkdir()
        with deployed(mode, place) as (pair, koi):
            key = await asyncio.to_thread(koi.key)
            users = Users("http://koi/v1", key, USERS, RoundRobin(pair.ports))

            await restarted_under_load(pair, koi, users, restarts[: -(-moments // 2)])
            restarts = restarts[-(-moments // 2) :]
