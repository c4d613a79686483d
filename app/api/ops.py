"""GET /livez, /readyz, /metrics: for whoever runs the gateway."""

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import require_scraper
from app.api.response_body import json_response
from app.api.state import get_app_state
from app.api.wire import LivenessBody

NO_STORE = {"cache-control": "no-store"}


async def live(request: Request) -> Response:
    """Whether this process still runs its event loop; asks no store and no provider."""
    alive = get_app_state(request).is_alive()
    content: LivenessBody = {"status": "ok" if alive else "stuck"}
    return json_response(orjson.dumps(content), NO_STORE, 200 if alive else 503)


async def ready(request: Request) -> Response:
    """Whether new requests should be sent here, with one status word for each part."""
    able, words = await get_app_state(request).readiness()
    content = orjson.dumps({"status": "ready" if able else "not_ready", **words})
    return json_response(content, NO_STORE, 200 if able else 503)


async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format; needs the metrics token or the admin key."""
    require_scraper(request)
    series = get_app_state(request).metrics
    # Thousands of series take long to write; the event loop must not wait for it.
    content = await asyncio.to_thread(series.render)
    return Response(content, 200, {**NO_STORE, "content-type": series.content_type})
