"""The `AuditLog` on Redis: a stream to which `save_record.lua` adds."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson

from app.adapters.redis.codec import entry_id
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditPage, AuditQuery, AuditRecord


class RedisAuditLog:
    """`app.domain.administration.AuditLog` says what the method does."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def page(self, query: AuditQuery) -> AuditPage:
        last = "+" if query.until_ms is None else str(max(query.until_ms - 1, 0))
        if query.after is not None:
            last = f"({query.after}"
        found: list[AuditRecord] = []
        stored = self._scripts.entries(str(query.since_ms), last, newest_first=True, noun="audit")
        async for id, row in stored:
            record = read_record(id, row)
            if query.wants(record):
                found.append(record)
            if len(found) > query.limit:
                break
        return AuditPage(list(islice(found, query.limit)), len(found) > query.limit)


def read_record(id: str, row: Mapping[str, str]) -> AuditRecord:
    """A stored record; an unknown field of a later version is ignored."""
    changes = orjson.loads(row["changes"])
    return AuditRecord(
        id=id,
        at_ms=entry_id(id)[0],
        actor=row["actor"],
        kind=row["kind"],
        target=row["target"],
        user=row.get("user"),
        team=row.get("team"),
        reason=row["reason"],
        changes={name: (_whole(old), _whole(new)) for name, (old, new) in sorted(changes.items())},
    )


def _whole(value: Any) -> Any:
    """The store writes large whole numbers with an exponent."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
