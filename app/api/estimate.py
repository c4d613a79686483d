"""POST /v1/images/generations?dry_run=true: the price and the limits, before anything is bought."""

from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.attribution import read_attribution
from app.api.parameters import describe_query, invalid_value_error
from app.api.request import ParsedRequest
from app.api.response_body import json_response
from app.api.response_headers import build_adjusted_header
from app.api.state import get_app_state, get_edge_settings
from app.api.usage import describe_binding
from app.api.wire_usage import EstimateBody
from app.domain.money import format_micros
from app.domain.principal import Principal
from app.service.estimate import GenerationEstimate

DRY_RUN = "dry_run"
PARAMETERS = [
    describe_query(
        DRY_RUN, {"type": "boolean"}, "Answer with the price and the limits; buy nothing."
    )
]
FLAGS = {"true": True, "1": True, "false": False, "0": False}


def is_dry_run(request: Request) -> bool:
    """Raises `InvalidRequest`: who misspells this would buy a picture."""
    if not request.scope["query_string"]:
        return False
    given = request.query_params.get(DRY_RUN, "false")
    if given.lower() not in FLAGS:
        raise invalid_value_error(DRY_RUN, f"{DRY_RUN} takes true or false.")
    return FLAGS[given.lower()]


async def answer_dry_run(request: Request, principal: Principal, parsed: ParsedRequest) -> Response:
    gateway = get_app_state(request).gateway
    await gateway.rate_limiter.check_read_rate(principal)
    read_attribution(request, principal, parsed.end_user)  # a tag that would be refused
    estimate = await gateway.estimate(principal, parsed.ask)
    now = datetime.fromtimestamp(get_edge_settings(request).now(), UTC)
    body = _describe(estimate, gateway.catalog.currency, now)
    headers = {"cache-control": "no-store", **build_adjusted_header(parsed.adjusted)}
    return json_response(orjson.dumps(body), headers)


def _describe(estimate: GenerationEstimate, currency: str, now: datetime) -> EstimateBody:
    asked, refused_by = estimate.request, estimate.refused_by
    return {
        "object": "image_generation.estimate",
        "model": asked.model,
        "size": asked.size,
        "quality": asked.quality,
        "n": asked.n,
        "cost": _write(estimate.micros),
        "unit_cost": _write(estimate.unit_micros),
        "currency": currency,
        "cache": estimate.cache,
        "refused": bool(refused_by),
        "refused_by": [describe_binding(status, now) for status in refused_by],
    }


def _write(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)
