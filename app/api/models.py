"""GET /v1/models: what this key may use."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.answers import json_response
from app.api.auth import caller
from app.api.running import running
from app.domain.errors import ModelNotFound

OWNER = "koi"


async def index(request: Request) -> Response:
    """Models by their own names; aliases work everywhere but are not listed."""
    principal = await caller(request)
    models = running(request).gateway.catalog.enabled
    allowed = [_model(model.name) for model in models if principal.may_use(model.name)]
    return json_response(orjson.dumps({"object": "list", "data": allowed}))


async def read(request: Request) -> Response:
    """One model by whatever name a generation may give it; the id may hold slashes."""
    principal = await caller(request)
    name: str = request.path_params["model"]
    model = running(request).gateway.catalog.called(name)
    if model is None or not principal.may_use(model.name):
        raise ModelNotFound
    return json_response(orjson.dumps(_model(name)))


def _model(name: str) -> dict[str, Any]:
    # The catalog knows no dates; SDKs want an integer.
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
