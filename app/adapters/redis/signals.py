"""The `Signals` on Redis pub/sub: fast when it works, and only slower when it does not."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog
from redis.exceptions import RedisError

from app.adapters.redis import keyspace
from app.adapters.redis.faults import resets_told
from app.adapters.redis.store import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class RedisSignals:
    """After `quiet_s` without a message the connection is asked for a sign of life. `heard` is
    called with the id of every job that ended, whoever else listens to it."""

    def __init__(
        self,
        store: Store,
        *,
        quiet_s: float = 5.0,
        heard: Callable[[str], None] = lambda _job_id: None,
    ) -> None:
        self._store, self._quiet_s, self._heard = store, quiet_s, heard
        self._log = structlog.get_logger()

    async def ended(self) -> AsyncIterator[str | None]:
        """Ids of jobs as they end, in any process; None after each silence in which some may have
        ended. Listens again after every trouble."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with resets_told():
                    async with contextlib.aclosing(self._listen()) as heard:
                        async for job_id in heard:
                            pause_s = FIRST_PAUSE_S
                            yield job_id
            except (RedisError, OSError) as error:
                if pause_s == FIRST_PAUSE_S:
                    self._log.info("signals_lost", reason=type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _listen(self) -> AsyncGenerator[str | None, None]:
        pubsub = await self._store.pubsub()
        try:
            await pubsub.subscribe(keyspace.ENDED_CHANNEL)
            yield None
            pinged = False
            while True:
                message = await pubsub.get_message(timeout=self._quiet_s)
                if message is not None and message["type"] == "message":
                    self._heard(message["data"])
                    yield message["data"]
                elif message is None and pinged:
                    raise TimeoutError
                pinged = message is None
                if pinged:
                    await pubsub.ping()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
