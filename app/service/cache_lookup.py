"""What the cache knows of a request, and which running job the request may join."""

import asyncio
import time

from app.domain.cache import CacheLookup, CacheOutcome
from app.domain.errors import GatewayOverloaded, NotCached
from app.domain.job import Job
from app.domain.ports import Ledger, ResultCache
from app.service.generation import GenerateCommand, IncomingRequest

MAKER_POLL_S = 0.02
MAX_MAKER_S = 3.0
"""The longest time from a cache lookup to the admission of the job that fills the variant: two
answers of a slow store. When the ledger does not know the job after that, its process died in
between, and one of the waiting requests makes the picture instead."""
MAX_MAKER_WAIT_S = 10.0
"""The longest wait for such jobs, however many of them die or are refused in turn."""


async def find_or_join(
    cache: ResultCache, ledger: Ledger, incoming: IncomingRequest
) -> tuple[CacheLookup, Job | None]:
    """What the cache knows, and the job to join when one is making the picture already.

    Raises `NotCached` for `only-if-cached` without an entry, and `GatewayOverloaded` when one job
    after another fails to make it.
    """
    only_if_cached = incoming.command.control.only_if_cached
    deadline_s = time.monotonic() + MAX_MAKER_WAIT_S
    found = await _look_up(cache, incoming)
    while found.outcome is CacheOutcome.JOINED:
        making = await ledger.job(found.job_id or "")
        if making is not None and making.failure is None:
            return found, making
        gone = making is not None or found.claimed_s > MAX_MAKER_S
        if only_if_cached and gone:
            break
        if time.monotonic() > deadline_s:
            raise GatewayOverloaded(
                "Identical requests keep failing; nothing was spent on this one."
            )
        if not gone:
            await asyncio.sleep(MAKER_POLL_S)
        instead_of = found.job_id if gone else None
        found = await _look_up(cache, incoming, instead_of)
    if only_if_cached and found.outcome is not CacheOutcome.HIT:
        raise _not_cached()
    return found, None


def bypass_cache(command: GenerateCommand) -> CacheLookup:
    """The lookup of a request that the cache neither answers nor learns from."""
    if command.control.only_if_cached:
        raise _not_cached()
    return CacheLookup(CacheOutcome.BYPASS, stored=False)


async def _look_up(
    cache: ResultCache, incoming: IncomingRequest, instead_of: str | None = None
) -> CacheLookup:
    command, caller = incoming.command, incoming.caller
    return await cache.look_up(
        command.request.fingerprint(incoming.principal.pool),
        caller.id,
        command.control,
        repeated=caller.dedup_keys.is_sdk_retry,
        instead_of=instead_of,
    )


def _not_cached() -> NotCached:
    return NotCached("No stored picture answers this request (only-if-cached).")
