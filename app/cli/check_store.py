"""The doctor's look at a store: does it answer, what is it, and would it keep what it is told?"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.adapters.redis.connection import connect, ledger_server
from app.cli.finding import Finding, fail, ok, warn

LEAST_VERSION = (7, 0)
MOST_SKEW_S = 2.0
TIMEOUT_S = 2.0


async def check_store(name: str, url: str, *, durable: bool) -> list[Finding]:
    """`durable` asks for what a ledger needs; a cache may forget."""
    try:
        client = connect(url, timeout_s=TIMEOUT_S)
    except ValueError as error:
        return [fail(name, f"its URL cannot be used: {error}", f"Mend {_variable(name)}.")]
    try:
        server = await ledger_server(client, TIMEOUT_S)
        return await _looked_at(name, server, durable=durable)
    except (RedisError, OSError) as error:
        mend = f"Check {_variable(name)}, the server and its password."
        return [fail(name, f"it does not answer ({type(error).__name__})", mend)]
    finally:
        await client.aclose()


async def _looked_at(name: str, client: Redis, *, durable: bool) -> list[Finding]:
    server = await _section(client, "server")
    memory = await _section(client, "memory")
    persistence = await _section(client, "persistence")
    skew_s = await _skew_s(client)
    findings = [*_engine(name, server), *_clock(name, skew_s)]
    if durable:
        fsync = await _configured(client, "appendfsync")
        findings += [*_persistence(name, persistence, fsync), *_eviction(name, memory)]
    return findings


def _engine(name: str, server: Mapping[str, Any]) -> Iterator[Finding]:
    engine = "valkey" if "valkey_version" in server else "redis"
    version = str(server.get(f"{engine}_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LEAST_VERSION:
        yield fail(name, f"{engine} {version} is too old", "Use Redis 7.0, Valkey 7.2 or newer.")
    else:
        yield ok(name, f"{engine} {version} answers")


def _clock(name: str, skew_s: float) -> Iterator[Finding]:
    if skew_s > MOST_SKEW_S:
        mend = "Run a time service on both machines; days begin by the store's clock."
        yield warn(name, f"its clock differs by {skew_s:.0f} s from this machine's", mend)


def _persistence(name: str, info: Mapping[str, Any], fsync: str | None) -> Iterator[Finding]:
    if not int(info.get("aof_enabled", 0)):
        mend = "Set appendonly yes and appendfsync always: what was paid is kept there alone."
        yield fail(name, "nothing is written to disk as it happens (no AOF)", mend)
    elif fsync is None:
        yield warn(name, "AOF is on; how often it is synced cannot be read", "Ask for `always`.")
    elif fsync != "always":
        mend = "Set appendfsync always; otherwise a power loss forgets the last second of spending."
        yield warn(name, f"AOF is on, synced {fsync}", mend)
    else:
        yield ok(name, "every write is on disk before it counts (AOF, always)")


def _eviction(name: str, memory: Mapping[str, Any]) -> Iterator[Finding]:
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield ok(name, "nothing is evicted (noeviction)")
    else:
        mend = "Set maxmemory-policy noeviction, or use a server of its own for the ledger."
        yield fail(name, f"it throws away data when full ({policy})", mend)


async def _section(client: Redis, name: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = await client.info(name)
    return answer


async def _skew_s(client: Redis) -> float:
    before = time.time()
    answer: Any = await client.time()
    after = time.time()
    store_s = float(answer[0]) + float(answer[1]) / 1e6
    return max(before - store_s, store_s - after, 0.0)


async def _configured(client: Redis, setting: str) -> str | None:
    """A server's setting; None where hosted servers hide it."""
    try:
        answer: Any = await client.config_get(setting)
    except RedisError:
        return None
    found = answer.get(setting) if isinstance(answer, dict) else None
    return None if found is None else str(found)


def _variable(name: str) -> str:
    return "KOI_CACHE_REDIS_URL" if name == "cache store" else "KOI_REDIS_URL"
