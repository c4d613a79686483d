"""From a store's URL to its client: one server, Sentinel or Cluster, with the same behaviour.

The client retries no command: a script whose first reply was late would run twice. The pool waits
for a free connection instead of failing.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from app.adapters.redis import keyspace

if TYPE_CHECKING:
    from app.adapters.redis.client.cluster import ClusterTopology

PLAIN_SCHEMES = frozenset({"redis", "rediss", "unix"})
SENTINEL_SCHEMES = frozenset({"redis+sentinel", "rediss+sentinel"})
CLUSTER_SCHEMES = frozenset({"redis+cluster", "rediss+cluster"})
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
SENTINEL_OPTIONS = ("socket_timeout", "socket_connect_timeout", "retry", "protocol")
"""Options that connections to a sentinel share with those to a store."""

Client: TypeAlias = "Redis | ClusterTopology"


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary; callers wait for a free one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def get_master_address(self) -> Any:
        """One caller at a time: redis-py moves the sentinel that answered to the front of its
        list, and two that do so together write one of them over another, which is then lost."""
        async with self._asking:
            return await super().get_master_address()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


PUBSUB_CONNECTIONS = 2
"""Connections that only listen (ends of jobs, questions about callers), beside those for calls."""


def connect(
    url: str, *, timeout_s: float = 0.5, pool_size: int = 16, pool_wait_s: float = 2.0
) -> Client:
    """A client for the URL; no connection is made before the first command.

    * `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS), `unix:///path[?db=0]`
    * `redis+sentinel://[user:password@]host[:26379],host…/service[/db]`
    * `redis+cluster://[user:password@]host[:6379],host…`; both also as `rediss+…`

    `ValueError` for anything else.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "koi",
        # Redis 7.0 does not know CLIENT SETINFO, and a slow link is asked once less.
        "driver_info": None,
        "decode_responses": True,
        "protocol": 3,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    pool = {"max_connections": pool_size + PUBSUB_CONNECTIONS, "timeout": pool_wait_s}
    scheme = url.partition("://")[0]
    if scheme in PLAIN_SCHEMES:
        return Redis.from_pool(BlockingConnectionPool.from_url(url, **options, **pool))
    if scheme in SENTINEL_SCHEMES:
        return _sentinel(url, options, pool)
    if scheme in CLUSTER_SCHEMES:
        return _cluster(url, options, pool)
    raise ValueError(
        f"{scheme!r} is no way to a store: use redis, rediss, unix, redis+sentinel or redis+cluster"
    )


async def find_ledger_node(client: Client, timeout_s: float) -> Redis:
    """The server that holds the ledger now, to listen on. The client's owner closes it.

    Raises `RedisError` or `OSError` when a cluster does not say which one it is.
    """
    if isinstance(client, Redis):
        return client
    await client.refresh(timeout_s, force=True)
    return Redis(connection_pool=client.pool(client.primary_of(keyspace.LEDGER_ROUTE[0])))


def _sentinel(url: str, options: dict[str, Any], pool: dict[str, Any]) -> Client:
    parts = urlsplit(url)
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a sentinel URL ends in the name of its service: …/mymaster")
    options = {**options, **_credentials(parts.netloc)}
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        _hosts(parts.netloc, DEFAULT_SENTINEL_PORT),
        sentinel_kwargs={key: options[key] for key in SENTINEL_OPTIONS},
    )
    options = {**options, **pool, "db": int(db or 0)}
    return Redis.from_pool(_SentinelPool(service, sentinels, **options))


def _cluster(url: str, options: dict[str, Any], pool: dict[str, Any]) -> Client:
    from app.adapters.redis.client.cluster import ClusterTopology  # noqa: PLC0415 - few need it

    parts = urlsplit(url)
    options = {**options, **_credentials(parts.netloc), **pool}
    if parts.scheme.startswith("rediss"):
        options["connection_class"] = SSLConnection
    return ClusterTopology(
        _hosts(parts.netloc, DEFAULT_PORT), partial(BlockingConnectionPool, **options)
    )


def _hosts(netloc: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for address in netloc.rpartition("@")[2].split(","):
        host, colon, port = address.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = address, ""
        hosts.append((host.strip("[]"), int(port or default_port)))
    return hosts


def _credentials(netloc: str) -> dict[str, str]:
    user, colon, password = netloc.rpartition("@")[0].partition(":")
    found = {"username": unquote(user), "password": unquote(password) if colon else ""}
    return {key: value for key, value in found.items() if value}
