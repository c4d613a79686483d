"""What the cache knows of a request, and which running job it may join instead of its own."""

import asyncio
import time

from app.domain.cache import CacheLookup, CacheOutcome
from app.domain.errors import GatewayOverloaded, NotCached
from app.domain.job import Job
from app.domain.ports import Ledger, ResultCache
from app.domain.principal import Principal
from app.service.generation import GenerateCommand

MAKER_POLL_S = 0.02
MAX_MAKER_S = 3.0
"""So long a maker may take from the cache to the ledger: two reads of a slow store. Unknown to the
ledger for longer, it died in between, and whoever waits for it makes the picture itself."""
MAX_MAKER_WAIT_S = 10.0
"""Nobody looks for a maker longer than this, however many of them die or are refused in turn."""


async def find_or_join(
    cache: ResultCache, ledger: Ledger, principal: Principal, command: GenerateCommand, job_id: str
) -> tuple[CacheLookup, Job | None]:
    """What the cache knows, and the job to join when another one is making it.

    Raises `NotCached` for `only-if-cached` without an entry, `GatewayOverloaded` when one maker
    after another fails.
    """
    deadline_s = time.monotonic() + MAX_MAKER_WAIT_S
    found = await _look_up(cache, principal, command, job_id)
    while found.outcome is CacheOutcome.JOINED:
        making = await ledger.job(found.job_id or "")
        if making is not None and making.failure is None:
            return found, making
        gone = making is not None or found.claimed_s > MAX_MAKER_S
        if command.control.only_if_cached and gone:
            break
        if time.monotonic() > deadline_s:
            raise GatewayOverloaded(
                "Identical requests keep failing; nothing was spent on this one."
            )
        if not gone:
            await asyncio.sleep(MAKER_POLL_S)
        instead_of = found.job_id if gone else None
        found = await _look_up(cache, principal, command, job_id, instead_of)
    if command.control.only_if_cached and found.outcome is not CacheOutcome.HIT:
        raise _not_cached()
    return found, None


def bypass_cache(command: GenerateCommand) -> CacheLookup:
    """The lookup of a request that the cache neither answers nor learns from."""
    if command.control.only_if_cached:
        raise _not_cached()
    return CacheLookup(CacheOutcome.BYPASS, stored=False)


async def _look_up(
    cache: ResultCache,
    principal: Principal,
    command: GenerateCommand,
    job_id: str,
    instead_of: str | None = None,
) -> CacheLookup:
    return await cache.look_up(
        command.request.fingerprint(principal.pool),
        job_id,
        command.control,
        repeated=command.dedup_keys.is_sdk_retry,
        instead_of=instead_of,
    )


def _not_cached() -> NotCached:
    return NotCached("No stored picture answers this request (only-if-cached).")
