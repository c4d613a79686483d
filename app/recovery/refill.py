"""Filling a quarantined store: batches of `restore.lua`, then the new epoch that opens it."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.adapters.redis.codec import Record, flatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import ErrorCode, ScriptError
from app.domain.job import OPEN_STATES
from app.domain.rebuild import RebuildRefused

BATCHES_AT_ONCE = 8
OVERTAKEN = (
    "Another rebuild or restore has ended or taken over meanwhile; look with `koi ledger check`."
)


async def restore_batches(scripts: LedgerScripts, batches: Sequence[Mapping[str, Any]]) -> None:
    """In order: calls that are made together leave together, and are synced to disk as one."""
    await asyncio.gather(*(restore_batch(scripts, batch) for batch in batches))


async def restore_batch(scripts: LedgerScripts, batch: Mapping[str, Any]) -> None:
    try:
        await scripts.run("restore", orjson.dumps(batch))
    except ScriptError as error:
        if error.code is not ErrorCode.LEDGER_OPEN:
            raise
        raise RebuildRefused(OVERTAKEN) from error


async def open_epoch_after(
    scripts: LedgerScripts,
    open_jobs: Sequence[Record],
    earlier: Mapping[str, int],
    run: str | None = None,
) -> None:
    """Open the ledger in a new epoch that continues the `earlier` ones.

    It begins above every number that was ever given; `open_epoch.lua` relies on it. Nothing is
    left to do when another rebuild has opened it already, which found the same. A restore, named by
    `run`, that another one took over raises `RebuildRefused`."""
    states = Counter(job["state"] for job in open_jobs)
    images = sum(int(job["n"]) for job in open_jobs)
    micros = sum(int(job["n"]) * int(job.get("unit", 0)) for job in open_jobs)
    counts = {
        **{state.value: states[state] for state in OPEN_STATES},
        "images": images,
        "micros": micros,
    }
    totals = flatten({name: str(count) for name, count in counts.items()})
    seq = max(earlier.values(), default=-1) + 1
    ask: dict[str, Any] = {
        "epoch": secrets.token_hex(16),
        "seq": seq,
        "earlier": earlier,
        "open": totals,
    }
    ask |= {} if run is None else {"run": run}
    try:
        await scripts.run("finish_rebuild", orjson.dumps(ask))
    except ScriptError as error:
        if error.code is not ErrorCode.LEDGER_OPEN:
            raise
        if run is not None:
            raise RebuildRefused(OVERTAKEN) from error
