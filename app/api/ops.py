"""GET /livez, /readyz, /metrics: for whoever runs the gateway."""

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import require_scraper
from app.api.response_body import json_response
from app.api.state import get_app_state

NO_STORE = {"cache-control": "no-store"}


async def live(request: Request) -> Response:
    """Whether this process still turns; asks no store and no provider."""
    alive = get_app_state(request).is_alive()
    content = orjson.dumps({"status": "ok" if alive else "stuck"})
    return json_response(content, NO_STORE, 200 if alive else 503)


async def ready(request: Request) -> Response:
    """Whether new work should come here, with one status word per part."""
    able, words = await get_app_state(request).readiness()
    content = orjson.dumps({"status": "ready" if able else "not_ready", **words})
    return json_response(content, NO_STORE, 200 if able else 503)


async def metrics(request: Request) -> Response:
    require_scraper(request)
    series = get_app_state(request).metrics
    # Thousands of series take long to write down (reliability study, S36).
    content = await asyncio.to_thread(series.render)
    return Response(content, 200, {**NO_STORE, "content-type": series.content_type})
