"""From the data of an earlier version to this one's, step by step (decision 45).

A step works on a closed store: nobody spends meanwhile. It must be idempotent, since one that was
interrupted runs again. After each step the store says its new version, and at the end it opens in a
new epoch, so that every gateway asks again which version it has to do with.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.adapters.redis import keyspace
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.errors import LedgerDataLost
from app.domain.other_store import DataVersionUnknown


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """Makes data of version `since` that of the next one."""

    since: int
    run: Callable[[LedgerScripts], Awaitable[None]]


STEPS: Sequence[UpgradeStep] = ()
"""None yet: there is one version."""


class UpgradeRefused(Exception):
    """Nothing was upgraded; the message is a sentence for the operator."""


async def upgrade_store(scripts: LedgerScripts, steps: Sequence[UpgradeStep] = STEPS) -> int:
    """The version that the store had. Raises `UpgradeRefused`, `LedgerDataLost`,
    `LedgerUnavailable`; `DataVersionUnknown` for a newer store."""
    found: int = (await scripts.run("read_epoch"))["version"]
    if found > keyspace.DATA_VERSION:
        raise DataVersionUnknown(found, keyspace.DATA_VERSION)
    if found == keyspace.DATA_VERSION:
        await _finish_interrupted(scripts)
        return found
    path = {step.since: step for step in steps}
    missing = [str(since) for since in range(found, keyspace.DATA_VERSION) if since not in path]
    if missing:
        raise UpgradeRefused(
            f"The store's data is of version {found}, and this Koi cannot upgrade data of version "
            f"{missing[0]}: use a Koi between the two first."
        )
    await _mark(scripts, "begin", found)
    for since in range(found, keyspace.DATA_VERSION):
        await path[since].run(scripts)
        await _mark(scripts, "step", since)
    await _mark(scripts, "end", keyspace.DATA_VERSION)
    return found


async def _finish_interrupted(scripts: LedgerScripts) -> None:
    """An upgrade that ended after its last step and before it opened the store."""
    if (await scripts.run("read_epoch"))["suspect"] == "upgrading":
        await _mark(scripts, "end", keyspace.DATA_VERSION)


async def _mark(scripts: LedgerScripts, what: str, version: int) -> None:
    marked = await scripts.run("upgrade_store", what, version, secrets.token_hex(16))
    if not marked["done"]:
        raise LedgerDataLost
