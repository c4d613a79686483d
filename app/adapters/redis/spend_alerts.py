"""`SpendAlerts` on Redis: records beside the spending stops, of scopes that cannot exist.

So gateways of an earlier version journal, copy and restore them, and take none of them for a stop.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields

import orjson

from app.adapters.redis.keyring import RedisKeyRing, ask_to_save
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditNote
from app.domain.spend_alerts import SpendAlert

PREFIX = "alert:"
NO_STOP = {"stopped": False, "reason": "", "at_ms": 0}


class RedisSpendAlerts:
    def __init__(self, scripts: LedgerScripts, keyring: RedisKeyRing) -> None:
        self._scripts, self._keyring = scripts, keyring

    async def save(
        self, alert: SpendAlert, note: AuditNote, *, before: SpendAlert | None = None
    ) -> None:
        """See the port."""
        ask = ask_to_save("stops", PREFIX + alert.id, _write(alert), "put")
        seen = {} if before is None else {"seen": orjson.dumps(_row(before)).decode()}
        await self._keyring.save({**ask, **seen}, note)

    async def alerts(self) -> Sequence[SpendAlert]:
        """See the port."""
        rows = map(orjson.loads, await self._scripts.records("stops"))
        found = [_read(row) for row in rows if row["name"].startswith(PREFIX)]
        alive = [alert for alert in found if alert.deleted_ms is None]
        return sorted(alive, key=lambda alert: (alert.created_ms, alert.id))


def _row(alert: SpendAlert) -> dict[str, object]:
    """With what is not set too, which somebody may have set meanwhile."""
    return {**asdict(alert), "name": PREFIX + alert.id, **NO_STOP}


def _write(alert: SpendAlert) -> bytes:
    return orjson.dumps({key: value for key, value in _row(alert).items() if value is not None})


def _read(row: dict[str, object]) -> SpendAlert:
    known = {field.name for field in fields(SpendAlert)}
    values = {name: value for name, value in row.items() if name in known}
    recipients = values.pop("recipients")
    assert isinstance(recipients, list)
    return SpendAlert(recipients=tuple(recipients), **values)  # type: ignore[arg-type]
