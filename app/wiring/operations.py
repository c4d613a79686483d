"""What the operator's console works with, on top of open adapters."""

from zoneinfo import ZoneInfo

from app.domain.administration import Actor
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.service.adjustments import Adjustments
from app.service.job_search import JobSearch
from app.service.keys import KeyAdmin
from app.service.operations import Operations
from app.service.people import People
from app.settings import Settings
from app.wiring.adapters import VERSION, Adapters
from app.wiring.bills import UploadedBills
from app.wiring.deployment import DeploymentView
from app.wiring.focus import build_focus_terms
from app.wiring.health import HealthChecks


def build_operations(
    adapters: Adapters, settings: Settings, catalog: Catalog, keys: KeyAdmin, actor: Actor
) -> Operations:
    calendar = Calendar(ZoneInfo(settings.timezone))
    people = People(adapters.directory, keys)
    health = HealthChecks(adapters, settings, catalog, people)
    return Operations(
        people=people,
        jobs=JobSearch(adapters.ledger),
        adjustments=Adjustments(adapters.ledger, keys, catalog, calendar, actor),
        bills=UploadedBills(adapters.ledger, adapters.keyring, catalog, calendar),
        health=health,
        deployment=DeploymentView(settings, adapters.gateways, VERSION),
        audit=health.audit,
        calendar=calendar,
        focus=build_focus_terms(settings, catalog),
        resolve_after_s=settings.resolve_after_s,
    )
