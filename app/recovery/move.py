"""Closing a ledger that moves to another store, and comparing both sides."""

import hashlib
from dataclasses import dataclass, fields

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import LIST_KEY_USE
from app.adapters.redis.codec import unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.recovery.backup import RECORD_FAMILIES

JOB_ROWS = 500


class MoveRefused(Exception):
    """Nothing was moved; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What must be the same on both sides. The digests are of all entries and all records."""

    entries: int
    images: int
    surplus: int
    micros: int
    entry_digest: str
    records: int
    record_digest: str
    open_jobs: int
    collecting_jobs: int
    job_digest: str

    def differences(self, other: "LedgerTotals") -> list[str]:
        names = (field.name for field in fields(self))
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def describe_place(url: str) -> str:
    """A store's address without its password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


async def close_for_move(scripts: LedgerScripts, place: str, seq: int | None = None) -> None:
    """From here on every writing script refuses, and says where to. Closing twice changes nothing.
    With `seq` only while that is the number of its latest change. Raises `MoveRefused`."""
    closed = await scripts.run("move_ledger", place, *([] if seq is None else [seq]))
    if "seq" in closed:
        raise MoveRefused(
            "Something was changed on the new store just now: it stays the one in use, and the old "
            "one stays closed. Move back instead: empty the old store and run `koi migrate` from "
            "the new one."
        )
    if not closed["moved"]:
        raise MoveRefused(
            "This store is closed for another reason already (it lost data, or it was moved "
            "elsewhere); `koi doctor` says which. Nothing was moved."
        )


async def reopen(scripts: LedgerScripts) -> None:
    """Raises `MoveRefused`."""
    if not (await scripts.run("move_ledger", ""))["moved"]:
        raise MoveRefused("This store's ledger was not moved, so there is nothing to cancel.")


async def continues(scripts: LedgerScripts, epoch: str) -> int | None:
    """How many changes a store has made since it took over that epoch; None when it has not."""
    found = await scripts.run("read_epoch")
    earlier = {name: int(seq) for name, seq in unflatten(found["earlier"]).items()}
    if found["epoch"] is None or epoch not in earlier:
        return None
    return int(found["seq"]) - (max(earlier.values()) + 1)


async def read_totals(scripts: LedgerScripts) -> LedgerTotals:
    """Of a ledger that nobody writes."""
    entries = images = surplus = micros = 0
    digest = hashlib.sha256()
    async for id, row in scripts.entries():
        digest.update(orjson.dumps([id, row]))
        entries, images = entries + 1, images + int(row["images"])
        surplus, micros = surplus + int(row["surplus"]), micros + int(row.get("micros", 0))
    records, record_digest = await _digest_records(scripts)
    due, collecting = await _job_ids(scripts, "due"), await _job_ids(scripts, "collect")
    return LedgerTotals(
        entries, images, surplus, micros, digest.hexdigest(), records, record_digest,
        len(due), len(collecting), hashlib.sha256(orjson.dumps([due, collecting])).hexdigest(),
    )  # fmt: skip


async def _digest_records(scripts: LedgerScripts) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    for family in RECORD_FAMILIES:
        found = await scripts.command(LIST_KEY_USE, keyspace.key(family))
        digest.update(orjson.dumps(sorted(found.items())))
        count += len(found)
    return count, digest.hexdigest()


async def _job_ids(scripts: LedgerScripts, noun: str) -> list[str]:
    ids: set[str] = set()
    following = "0"
    while True:
        page = await scripts.run("list_unfinished", noun, following, JOB_ROWS)
        ids.update(page["members"][::2])
        following = page["next"]
        if following == "0":
            return sorted(ids)
