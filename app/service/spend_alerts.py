"""Use cases on spend alerts; `NoticeWatch` publishes the notices when a threshold is reached."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.domain.administration import Actor, AuditNote
from app.domain.catalog import Catalog
from app.domain.spend_alerts import SpendAlert, SpendAlerts
from app.service.admin_errors import AlertUnknown, AlertUnpriced, TooManyAlerts
from app.service.check_prices import say_what_is_unpriced
from app.service.teams import one_line

if TYPE_CHECKING:
    from app.domain.ports import KeyRing

MAX_ALERTS = 500


@dataclass(frozen=True, slots=True)
class AlertTerms:
    """What an alert says: money in micro-units of a month, and whom the notice names."""

    threshold_micros: int
    recipients: tuple[str, ...]
    subject_prefix: str


class SpendAlertAdmin:
    """`keyring` has the clock; the audit log will say that `actor` made every change, and why."""

    def __init__(
        self,
        alerts: SpendAlerts,
        keyring: "KeyRing",
        catalog: Catalog,
        actor: Actor,
        reason: str = "",
    ) -> None:
        self._alerts, self._keyring, self._catalog = alerts, keyring, catalog
        self._actor, self._reason = actor, one_line(reason)

    def acting_as(self, actor: Actor | None = None, reason: str = "") -> "SpendAlertAdmin":
        by = actor or self._actor
        return SpendAlertAdmin(self._alerts, self._keyring, self._catalog, by, reason)

    async def alerts(self, scope: str | None) -> Sequence[SpendAlert]:
        """Those of `house` or `team:…`, oldest first; None: all."""
        found = await self._alerts.alerts()
        return [alert for alert in found if scope in (None, alert.scope)]

    async def find(self, scope: str | None, alert_id: str) -> SpendAlert:
        """Raises `AlertUnknown`."""
        for alert in await self.alerts(scope):
            if alert.id == alert_id:
                return alert
        raise AlertUnknown(f"There is no spend alert {alert_id!r}.")

    async def create(self, scope: str, terms: AlertTerms) -> SpendAlert:
        """Raises `AlertUnpriced`, `TooManyAlerts`."""
        self._require_prices()
        if len(await self._alerts.alerts()) >= MAX_ALERTS:
            raise TooManyAlerts(f"There are {MAX_ALERTS} spend alerts; delete some first.")
        alert = SpendAlert(
            id=f"alert_{secrets.token_hex(8)}",
            scope=scope,
            threshold_micros=terms.threshold_micros,
            recipients=terms.recipients,
            subject_prefix=terms.subject_prefix,
            created_ms=await self._keyring.now_ms(),
        )
        await self._save(alert, "created")
        return alert

    async def update(self, scope: str, alert_id: str, terms: AlertTerms) -> SpendAlert:
        """Raises `AlertUnknown`, `AlertUnpriced` for another threshold, `Conflict`."""
        before = await self.find(scope, alert_id)
        if terms.threshold_micros != before.threshold_micros:
            self._require_prices()
        alert = replace(
            before,
            threshold_micros=terms.threshold_micros,
            recipients=terms.recipients,
            subject_prefix=terms.subject_prefix,
        )
        await self._save(alert, "updated", before)
        return alert

    async def delete(self, scope: str | None, alert_id: str) -> SpendAlert:
        """Raises `AlertUnknown`, `Conflict`."""
        alert = await self.find(scope, alert_id)
        deleted = replace(alert, deleted_ms=await self._keyring.now_ms())
        await self._save(deleted, "deleted", alert)
        return deleted

    def _require_prices(self) -> None:
        """What is spent on a model without a price is unknown, so no threshold would be reached."""
        if self._catalog.unpriced:
            raise AlertUnpriced(say_what_is_unpriced(self._catalog, "a spend alert"))

    async def _save(self, alert: SpendAlert, verb: str, before: SpendAlert | None = None) -> None:
        note = AuditNote(self._actor, f"spend_alert.{verb}", self._reason)
        await self._alerts.save(alert, note, before=before)
