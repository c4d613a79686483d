"""GET /v1/koi/pictures and DELETE /v1/images/{name}: a holder's own pictures."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from app.api.errors import ErrorResponse, wrong_method_error
from app.api.holder.access import holder_route
from app.api.holder.wire import DeletedPictureBody, PictureListBody, PictureObject
from app.api.image_content import POST_ONLY_NAMES
from app.api.organization.paging import object_response
from app.api.parameters import invalid_value_error
from app.api.response_body import build_image_link
from app.api.state import get_app_state, get_edge_settings
from app.api.tasks import TASKS_PER_READ, parse_page
from app.domain.images import Picture
from app.domain.job import Job, TaskStatus
from app.domain.money import format_micros
from app.domain.principal import Principal


@holder_route
async def index(request: Request, principal: Principal) -> Response:
    """Your pictures, newest first, as long as they are kept: those of `limit` tasks at a time, so
    that a page may hold more pictures than that, or none when they were deleted."""
    query = replace(parse_page(request.query_params), status=TaskStatus.COMPLETED)
    gateway = get_app_state(request).gateway
    await gateway.rate_limiter.check_read_rate(principal, max(query.limit / TASKS_PER_READ - 1, 0))
    page = await gateway.tasks.list(principal, query)
    if page is None:
        raise invalid_value_error("after", "after must be the id of a task in your list.")
    content: PictureListBody = {
        "object": "list",
        "data": [
            _describe(request, job, picture) for job in page.tasks for picture in job.pictures_left
        ],
        "last_id": page.tasks[-1].id if page.tasks else None,
        "has_more": page.more,
    }
    return object_response(content)


async def delete(request: Request) -> Response:
    """Delete a picture of yours. In a shared cache team mates keep what they were given; nobody is
    given it anew."""
    if request.path_params["name"] in POST_ONLY_NAMES:
        return ErrorResponse(wrong_method_error().note, headers={"allow": "POST"})
    return await _delete(request)


@holder_route
async def _delete(request: Request, principal: Principal) -> Response:
    name: str = request.path_params["name"]
    await get_app_state(request).gateway.tasks.delete_picture(principal, name)
    content: DeletedPictureBody = {"object": "koi.picture.deleted", "id": name, "deleted": True}
    return object_response(content)


def _describe(request: Request, job: Job, picture: Picture) -> PictureObject:
    unit = job.unit_micros if job.billed else 0
    ended_s = (job.ended_ms or job.created_ms) // 1000
    return {
        "id": picture.name,
        "object": "koi.picture",
        "task_id": job.id,
        "created_at": job.created_ms // 1000,
        "expires_at": ended_s + round(get_edge_settings(request).image_ttl_s),
        "model": job.model,
        "size": job.size,
        "quality": job.quality,
        "width": picture.width,
        "height": picture.height,
        "media_type": picture.media_type,
        "cost": None if unit is None else format_micros(unit),
        "revised_prompt": picture.revised_prompt,
        "url": build_image_link(request, picture),
    }
