"""GET /v1/models: what this key may use."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.response_body import json_response
from app.api.state import get_app_state, get_edge_settings
from app.api.wire import ModelListBody, ModelObject
from app.domain.catalog import Model
from app.domain.money import format_micros

NO_STORE = {"cache-control": "no-store"}
OWNED_BY = "koi"
ENDPOINT_TYPE = "image-generation"
"""What clients that ask several kinds of services look for, such as Cherry Studio."""


async def index(request: Request) -> Response:
    """The models this key may use, by their own names. Aliases work too, and are listed where
    `KOI_LIST_ALIASES` says so: some clients offer only names that they know."""
    principal = await authenticate_request(request)
    catalog = get_app_state(request).gateway.catalog
    shown = get_edge_settings(request).list_aliases
    allowed = [
        _build_model(name, model, catalog.currency)
        for model in catalog.enabled
        if principal.may_use(model.name)
        for name in (model.name, *(model.aliases if shown else ()))
    ]
    content: ModelListBody = {"object": "list", "data": allowed}
    return json_response(orjson.dumps(content), NO_STORE)


async def read(request: Request) -> Response:
    """One model by any name that a generation may use for it; the name may hold slashes."""
    principal = await authenticate_request(request)
    name: str = request.path_params["model"]
    catalog = get_app_state(request).gateway.catalog
    model = principal.resolve_model(catalog, name)
    described = _build_model(name, model, catalog.currency)
    return json_response(orjson.dumps(described), NO_STORE)


def _build_model(name: str, model: Model, currency: str) -> ModelObject:
    return {
        "id": name,
        "object": "model",
        "created": 0,  # SDKs want a date, and the catalog has none.
        "owned_by": OWNED_BY,
        "supported_endpoint_types": [ENDPOINT_TYPE],
        "capabilities": {
            "model": model.name,
            "sizes": list(model.sizes),
            "qualities": list(model.qualities),
            "max_prompt_chars": model.max_prompt_chars,
            "references": model.references,
            "reference_price": format_micros(model.reference_micros) if model.references else None,
            "currency": currency,
            "prices": [
                {"size": size, "quality": quality, "price": _write(model.price(size, quality))}
                for quality in model.qualities
                for size in model.sizes
            ],
        },
    }


def _write(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)
