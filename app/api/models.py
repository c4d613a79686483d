"""GET /v1/models: what this key may use."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.response_body import json_response
from app.api.state import get_app_state

OWNED_BY = "koi"


async def index(request: Request) -> Response:
    """Models by their own names; aliases work everywhere but are not listed."""
    principal = await authenticate_request(request)
    models = get_app_state(request).gateway.catalog.enabled
    allowed = [_build_model(model.name) for model in models if principal.may_use(model.name)]
    return json_response(orjson.dumps({"object": "list", "data": allowed}))


async def read(request: Request) -> Response:
    """One model by whatever name a generation may give it; the id may hold slashes."""
    principal = await authenticate_request(request)
    name: str = request.path_params["model"]
    principal.resolve_model(get_app_state(request).gateway.catalog, name)
    return json_response(orjson.dumps(_build_model(name)))


def _build_model(name: str) -> dict[str, Any]:
    # The catalog knows no dates; SDKs want an integer.
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNED_BY}
