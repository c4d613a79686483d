"""GET /v1/models: what this key may use."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.response_body import json_response
from app.api.state import get_app_state
from app.api.wire import ModelListBody, ModelObject
from app.domain.errors import ModelNotFound

OWNED_BY = "koi"


async def index(request: Request) -> Response:
    """The models this key may use, by their own names; aliases work but are not listed."""
    principal = await authenticate_request(request)
    models = get_app_state(request).gateway.catalog.enabled
    allowed = [_build_model(model.name) for model in models if principal.may_use(model.name)]
    content: ModelListBody = {"object": "list", "data": allowed}
    return json_response(orjson.dumps(content))


async def read(request: Request) -> Response:
    """One model by any name that a generation may use for it; the name may hold slashes."""
    principal = await authenticate_request(request)
    name: str = request.path_params["model"]
    model = get_app_state(request).gateway.catalog.resolve(name)
    if model is None or not principal.may_use(model.name):
        raise ModelNotFound
    return json_response(orjson.dumps(_build_model(name)))


def _build_model(name: str) -> ModelObject:
    # SDKs want a date, and the catalog has none.
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNED_BY}
