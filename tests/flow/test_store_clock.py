"""The store's clock is set while jobs wait: nobody waits longer, nothing is given up."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway, quick_sandbox

HOURS = 2
STEP = """
local by = tonumber(ARGV[1])
local function int(n) return string.format('%.0f', n) end
for _, key in ipairs(redis.call('KEYS', 'koi:*')) do
  local noun = string.match(key, '}:([%a_]+)')
  local kind = redis.call('TYPE', key).ok
  if kind == 'zset' then
    local unit = noun == 'queue' and 1000 or 1
    local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do redis.call('ZADD', key, int(rows[i + 1] - by * unit), rows[i]) end
  elseif noun == 'clock' then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local its, ours = string.match(all[i + 1], '^(%d+) (%d+)$')
      redis.call('HSET', key, all[i], its and its .. ' ' .. int(ours - by) or int(all[i + 1] - by))
    end
  elseif noun == 'job' then
    for _, field in ipairs({ 'created', 'dispatched', 'ended', 'overtook', 'bound' }) do
      local at = redis.call('HGET', key, field)
      if at then redis.call('HSET', key, field, int(at - by)) end
    end
  elseif noun == 'pace' then
    redis.call('SET', key, int(redis.call('GET', key) - by * 1000), 'KEEPTTL')
  end
end
"""
"""A server whose clock is set ahead by two hours finds all it wrote two hours older."""


@dataclass
class Clock:
    """The clock of the store's server, which an operator sets."""

    url: str

    def set(self, hours: float) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.eval(STEP, 0, round(hours * 3_600_000))


@pytest.fixture
def store(store_url: str) -> str:
    return store_url


@pytest.fixture
def clock(store: str) -> Clock:
    return Clock(store)


@contextlib.contextmanager
def gateway_on(store: str, tmp_path: Path, **settings: Any) -> Iterator[Koi]:
    options = {"task_deadline_s": 60, "resolve_after_s": 60, "upstream_poll_interval_s": 0.3}
    with (
        quick_sandbox() as sandbox,
        gateway(sandbox, store, tmp_path / "koi", **{**options, **settings}) as koi,
    ):
        yield koi


def submit(client: httpx.Client, prompt: str = "a clock") -> str:
    answer = client.post(GENERATE, json={**KOI, "prompt": prompt, "async": True})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def ended(client: httpx.Client, task: str, within_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while (read := client.get(f"/v1/tasks/{task}").json())["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline, read
        time.sleep(0.05)
    return dict(read)


@pytest.mark.parametrize("hours", [HOURS, -HOURS])
@pytest.mark.parametrize("limited", [False, True])
def test_a_task_at_the_provider_is_polled_on_and_not_given_up(
    store: str, clock: Clock, tmp_path: Path, hours: float, limited: bool
) -> None:
    limits = {"upstream_concurrency": 2, "upstream_rpm": 600} if limited else {}
    with gateway_on(store, tmp_path, **limits) as koi, koi.client(timeout=60) as client:
        koi.sandbox.set(latency_s=4)
        task = submit(client)
        while koi.sandbox.polls < 2:
            time.sleep(0.05)
        clock.set(hours)
        polls = koi.sandbox.polls
        others = [submit(client, f"after {n}") for n in range(2)]

        assert ended(client, task, 30)["status"] == "completed"
        assert koi.sandbox.polls > polls
        assert [ended(client, other, 30)["status"] for other in others] == ["completed"] * 2
        koi.settled()
        assert koi.sandbox.billed_images == sum(entry.images for entry in koi.entries()) == 3
        assert sum(entry.presumed for entry in koi.entries()) == 0


@pytest.mark.parametrize("hours", [HOURS, -HOURS])
def test_also_when_the_gateway_was_down_meanwhile(
    store: str, clock: Clock, tmp_path: Path, hours: float
) -> None:
    with quick_sandbox() as sandbox:
        sandbox.set(latency_s=3)
        options = {"task_deadline_s": 60, "resolve_after_s": 60, "drain_timeout_s": 0.1}
        with gateway(sandbox, store, tmp_path / "koi", **options) as koi:
            key = koi.key()
            with koi.client(key) as client:
                task = submit(client)
            while sandbox.polls < 1:
                time.sleep(0.02)
        clock.set(hours)
        with gateway(sandbox, store, tmp_path / "koi", **options) as koi, koi.client(key) as client:
            assert ended(client, task, 30)["status"] == "completed"
            koi.settled()
            assert sum(entry.images for entry in koi.entries()) == sandbox.billed_images == 1


def test_a_rate_limit_lasts_no_longer_than_a_minute_after_the_clock_was_set_back(
    store: str, clock: Clock, tmp_path: Path
) -> None:
    from app.domain.limits import Limits

    with gateway_on(store, tmp_path) as koi:
        key = koi.key(limits=Limits(requests_per_minute=2))
        with koi.client(key, timeout=60) as client:
            assert client.post(GENERATE, json=KOI).status_code == 200
            clock.set(-HOURS)

            assert client.post(GENERATE, json={**KOI, "prompt": "another"}).status_code == 200
