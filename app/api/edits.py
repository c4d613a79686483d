"""POST /v1/images/edits: pictures made after those that a request brings along. Variations, which
bring no prompt, are refused: no provider has them."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.form import is_form
from app.api.images import order_images
from app.api.parameters import missing_error
from app.api.references import ReceivedOrder, read_form, read_long_json
from app.api.request_upload import discard_upload
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import InvalidRequest

TEXT_ONLY = (
    "The models here paint from text alone: POST a prompt to /v1/images/generations. The operator "
    "can offer one that takes images (references in the catalog). Nothing was charged."
)
NO_VARIATIONS = (
    "There are no variations: POST the image with a prompt to /v1/images/edits. Nothing was "
    "charged."
)


def takes_edits(request: Request) -> bool:
    """Whether any model that is offered takes reference images."""
    return get_edge_settings(request).max_references > 0


async def create(request: Request) -> Response:
    """Edit images, or follow them; otherwise like a generation."""
    if not takes_edits(request):
        return await reject_unsupported(request)
    return await order_images(request, read_edit)


async def reject_unsupported(request: Request) -> Response:
    """No model here can do that. Nothing is charged."""
    await authenticate_request(request)
    # A client that is still sending its upload would not read the answer.
    await discard_upload(request)
    raise InvalidRequest(
        "unsupported_endpoint", NO_VARIATIONS if takes_edits(request) else TEXT_ONLY
    )


async def read_edit(request: Request) -> ReceivedOrder:
    """A form or JSON with at least one picture. Without a model it means the default one if that
    takes pictures, else the first that does."""
    order = await (read_form(request) if is_form(request) else read_long_json(request))
    if not order.inputs:
        raise missing_error("image")
    if order.body.get("model") is None and get_access_record(request).deployment is None:
        catalog = get_app_state(request).gateway.catalog
        default = catalog.find(catalog.default_model)
        if default is None or not default.references:
            name = catalog.with_references[0].name
            return replace(order, body={**order.body, "model": name})
    return order
