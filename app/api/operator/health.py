"""GET /v1/koi/health and /v1/koi/settings: how the deployment is, and how it is set up."""

from collections.abc import Sequence
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from app.api.operator.standing import describe_standing, money_text, standing_name
from app.api.operator.wire import (
    AlarmObject,
    CheckObject,
    HealthBody,
    OpenJobsObject,
    SettingsBody,
)
from app.api.organization.access import Administrator, admin_route
from app.api.organization.paging import object_response, seconds
from app.domain.administration import AdminScope
from app.domain.catalog import Catalog
from app.domain.check_result import CheckResult, CheckStatus
from app.domain.job import JobState
from app.domain.ledger import OpenJobStats
from app.service.people_values import Person, share_used

MAX_ALARMS = 100


@admin_route(AdminScope.READ)
async def read(_request: Request, admin: Administrator) -> Response:
    """The doctor's checks and the figures of now, at most some seconds old. What does not answer is
    a check that says so."""
    found, catalog = await admin.gateway.operations.health(), admin.gateway.catalog
    content: HealthBody = {
        "object": "koi.health",
        "state": _worst(found.checks),
        "as_of": seconds(found.at_ms),
        "currency": catalog.currency,
        "checks": [_describe_check(result) for result in found.checks],
        "house": None if found.house is None else describe_standing(found.house, catalog),
        "jobs": None if found.jobs is None else _describe_jobs(found.jobs, catalog),
        "waiting_for_provider": found.waiting_for_provider,
        "people_above_80": None if found.alarming is None else _list_alarms(found.alarming),
    }
    return object_response(content)


@admin_route(AdminScope.READ)
async def settings(_request: Request, admin: Administrator) -> Response:
    """Every setting in force, where it came from, and the gateways heard of. No secret is shown."""
    found = await admin.gateway.operations.deployment()
    gateways = found.gateways
    content: SettingsBody = {
        "object": "koi.settings",
        "version": found.version,
        "store": found.store_name,
        "image_store": found.image_store,
        "data": [
            {"name": one.name, "value": one.value, "source": one.source, "secret": one.secret}
            for one in found.settings
        ],
        "unknown": dict(found.unknown),
        "gateways": None
        if gateways is None
        else [
            {
                "id": one.id,
                "host": one.host,
                "images": one.place,
                "heard_at": seconds(one.last_ms),
            }
            for one in gateways
        ],
        "moved_to": found.moved_to,
    }
    return object_response(content)


def _list_alarms(people: Sequence[Person]) -> list[AlarmObject]:
    alarms: list[AlarmObject] = []
    for person in people[:MAX_ALARMS]:
        status = person.alarming
        if status is not None:
            alarms.append(
                {
                    "user_id": person.holder.name,
                    "name": person.holder.title or person.holder.name,
                    "limit": standing_name(status),
                    "used_percent": round(100 * share_used(status)),
                }
            )
    return sorted(alarms, key=lambda alarm: -alarm["used_percent"])


def _describe_check(result: CheckResult) -> CheckObject:
    return {
        "name": result.check,
        "state": result.status.value,
        "sentence": result.text,
        "mend": result.fix or None,
    }


def _describe_jobs(stats: OpenJobStats, catalog: Catalog) -> OpenJobsObject:
    known = not (stats.held_images and catalog.unpriced)
    return {
        "queued": stats.jobs[JobState.RESERVED],
        "in_flight": stats.jobs[JobState.DISPATCHED],
        "unknown": stats.jobs[JobState.UNKNOWN],
        "collecting": stats.collecting,
        "held_images": stats.held_images,
        "held_cost": money_text(stats.held_micros if known else None),
        "late_s": stats.lag_ms // 1000,
    }


def _worst(checks: Sequence[CheckResult]) -> Literal["ok", "warn", "fail"]:
    found = {result.status for result in checks}
    if CheckStatus.FAIL in found:
        return "fail"
    return "warn" if CheckStatus.WARN in found else "ok"
