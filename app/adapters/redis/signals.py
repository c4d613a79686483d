"""The `SignalBus` on Redis pub/sub: when it does not work, everything is only slower."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog
from redis.exceptions import RedisError

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.errors import translate_resets
from app.adapters.redis.client.scripts import PUBLISH
from app.domain.cancellation import raise_if_cancelled

MIN_RETRY_S, MAX_RETRY_S = 0.1, 2.0


class RedisSignals:
    """After `quiet_s` without a message the connection is pinged. `heard` is called with the id of
    every job that ended, whoever else listens to it."""

    def __init__(
        self,
        store: BatchingStore,
        *,
        quiet_s: float = 5.0,
        heard: Callable[[str], None] = lambda _job_id: None,
    ) -> None:
        self._store, self._quiet_s, self._heard = store, quiet_s, heard
        self._log = structlog.get_logger()

    async def publish(self, message: str) -> int:
        """See the port. Raises `StoreUnavailable`."""
        channel = keyspace.CALLERS_CHANNEL
        return int(await self._store.run(PUBLISH, keyspace.LEDGER_ROUTE, channel, message))

    async def ended(self) -> AsyncIterator[str | None]:
        """Ids of jobs as they end, in any process; None after each gap in which some may have
        ended. Listens again after every failure."""
        async for job_id in self._messages(keyspace.ENDED_CHANNEL):
            if job_id is not None:
                self._heard(job_id)
            yield job_id

    async def caller_messages(self) -> AsyncIterator[str]:
        """On a connection of its own: a question has to be answered soon."""
        async for message in self._messages(keyspace.CALLERS_CHANNEL):
            if message is not None:
                yield message

    async def _messages(self, channel: str) -> AsyncIterator[str | None]:
        pause_s = MIN_RETRY_S
        while True:
            try:
                with translate_resets():
                    async with contextlib.aclosing(self._listen(channel)) as heard:
                        async for message in heard:
                            pause_s = MIN_RETRY_S
                            yield message
            except (RedisError, OSError) as error:
                raise_if_cancelled(error)
                if pause_s == MIN_RETRY_S:
                    self._log.info("signals_lost", channel=channel, reason=type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    async def _listen(self, channel: str) -> AsyncGenerator[str | None, None]:
        listener = await self._store.listen(channel)
        try:
            pinged = False
            while True:
                raise_if_cancelled()
                heard = await listener.read(self._quiet_s)
                if heard is None and pinged:
                    raise TimeoutError
                pinged = heard is None
                if pinged:
                    listener.ping()
                for message in heard or ():
                    yield message
        finally:
            await listener.close()
