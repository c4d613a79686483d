"""`SpendAlerts` on Redis: records beside the spending stops, of scopes that cannot exist.

So gateways of an earlier version journal, copy and restore them, and take none of them for a stop.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields

import orjson

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditNote
from app.domain.spend_alerts import SpendAlert

PREFIX = "alert:"
NO_STOP = {"stopped": False, "reason": "", "at_ms": 0}


class RedisSpendAlerts:
    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def save(self, alert: SpendAlert, note: AuditNote) -> None:
        name = PREFIX + alert.id
        row = {key: value for key, value in asdict(alert).items() if value is not None}
        request = {
            "family": "stops",
            "name": name,
            "mode": "put",
            "record": orjson.dumps({**row, "name": name, **NO_STOP}).decode(),
            "audit": {"actor": note.actor.text, "kind": note.kind, "reason": note.reason},
        }
        await self._scripts.write("save_record", request)

    async def alerts(self) -> Sequence[SpendAlert]:
        """See the port."""
        rows = map(orjson.loads, await self._scripts.records("stops"))
        found = [_read(row) for row in rows if row["name"].startswith(PREFIX)]
        alive = [alert for alert in found if alert.deleted_ms is None]
        return sorted(alive, key=lambda alert: (alert.created_ms, alert.id))


def _read(row: dict[str, object]) -> SpendAlert:
    known = {field.name for field in fields(SpendAlert)}
    values = {name: value for name, value in row.items() if name in known}
    recipients = values.pop("recipients")
    assert isinstance(recipients, list)
    return SpendAlert(recipients=tuple(recipients), **values)  # type: ignore[arg-type]
