"""What `koi doctor` checks of a store: does it answer, which one is it, will it keep its data?

A start looks at the servers that the settings name, too, and logs what it finds wrong.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.adapters.redis.client.connection import connect, find_ledger_node
from app.domain.check_result import CheckResult, CheckStatus, fail, ok, warn
from app.settings import Settings

log = structlog.get_logger("koi.serve")

MIN_VERSION = (7, 0)
MAX_CLOCK_SKEW_S = 2.0
TIMEOUT_S = 2.0


async def check_store(
    name: str, url: str, *, durable: bool, setting: str = "KOI_REDIS_URL"
) -> list[CheckResult]:
    """`durable` also checks what a ledger needs; a cache may lose its data. `setting` is where the
    URL came from."""
    client = connect(url, timeout_s=TIMEOUT_S)
    try:
        server = await find_ledger_node(client, TIMEOUT_S)
        return await _check_server(name, server, durable=durable)
    except (RedisError, OSError) as error:
        fix = f"Check {setting}, the server and its password."
        # What the server said while the connection was being made: a wrong password, loading.
        cause = error.__cause__ if isinstance(error.__cause__, RedisError) else error
        return [fail(name, f"it does not answer ({type(cause).__name__})", fix)]
    finally:
        await client.aclose()


async def check_cache_store(url: str) -> list[CheckResult]:
    return await check_store("cache store", url, durable=False, setting="KOI_CACHE_REDIS_URL")


def log_store_checks(settings: Settings) -> None:
    """Ask the servers of one's own, and log what has to be put right, within a few seconds."""
    asyncio.run(_log_checks(settings))


async def _log_checks(settings: Settings) -> None:
    checks = {}
    if settings.redis_url is not None:
        checks["ledger"] = check_store("store", settings.redis_url, durable=True)
    if settings.cache_redis_url is not None:
        checks["cache"] = check_cache_store(settings.cache_redis_url)
    for store, results in zip(checks, await asyncio.gather(*checks.values()), strict=True):
        for result in results:
            if result.status is not CheckStatus.OK:
                write = log.warning if result.status is CheckStatus.FAIL else log.info
                fix = f"{result.fix} `koi doctor` looks again."
                write("store_checked", store=store, found=result.text, fix=fix)


async def _check_server(name: str, client: Redis, *, durable: bool) -> list[CheckResult]:
    server = await _read_info(client, "server")
    memory = await _read_info(client, "memory")
    persistence = await _read_info(client, "persistence")
    skew_s = await _measure_skew_s(client)
    results = [*_check_version(name, server), *_check_clock(name, skew_s)]
    if durable:
        fsync = await _read_config(client, "appendfsync")
        results += [*_check_persistence(name, persistence, fsync), *_check_eviction(name, memory)]
    return results


def _check_version(name: str, server: Mapping[str, Any]) -> Iterator[CheckResult]:
    engine = "valkey" if "valkey_version" in server else "redis"
    version = str(server.get(f"{engine}_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        yield fail(name, f"{engine} {version} is too old", "Use Redis 7.0, Valkey 7.2 or newer.")
    else:
        yield ok(name, f"{engine} {version} answers")


def _check_clock(name: str, skew_s: float) -> Iterator[CheckResult]:
    if skew_s > MAX_CLOCK_SKEW_S:
        fix = "Run a time service on both machines; days begin by the store's clock."
        yield warn(name, f"its clock differs by {skew_s:.0f} s from this machine's", fix)


def _check_persistence(
    name: str, info: Mapping[str, Any], fsync: str | None
) -> Iterator[CheckResult]:
    if not int(info.get("aof_enabled", 0)):
        fix = "Set appendonly yes and appendfsync always: only the store knows what was charged."
        text = (
            "nothing is written to disk as it happens (no AOF): its next restart may lose what was "
            "charged, and then nothing is bought until the ledger is rebuilt"
        )
        yield fail(name, text, fix)
    elif fsync is None:
        yield warn(name, "AOF is on; how often it is synced cannot be read", "Ask for `always`.")
    elif fsync != "always":
        fix = "Set appendfsync always; otherwise a power loss loses the last second of spending."
        yield warn(name, f"AOF is on, synced {fsync}", fix)
    else:
        yield ok(name, "every write is on disk before it counts (AOF, always)")


def _check_eviction(name: str, memory: Mapping[str, Any]) -> Iterator[CheckResult]:
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield ok(name, "nothing is evicted (noeviction)")
    else:
        fix = "Set maxmemory-policy noeviction, or use a server of its own for the ledger."
        yield fail(name, f"it throws away data when full ({policy})", fix)


async def _read_info(client: Redis, name: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = await client.info(name)
    return answer


async def _measure_skew_s(client: Redis) -> float:
    before = time.time()
    answer: Any = await client.time()
    after = time.time()
    store_s = float(answer[0]) + float(answer[1]) / 1e6
    return max(before - store_s, store_s - after, 0.0)


async def _read_config(client: Redis, setting: str) -> str | None:
    """A server's setting; None where hosted servers hide it."""
    try:
        answer: Any = await client.config_get(setting)
    except RedisError:
        return None
    found = answer.get(setting) if isinstance(answer, dict) else None
    return None if found is None else str(found)
