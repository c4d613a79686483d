"""GET /v1/koi/pictures and DELETE /v1/images/{name}: a holder's own pictures."""

from starlette.requests import Request
from starlette.responses import Response

from app.api.errors import ErrorResponse, wrong_method_error
from app.api.holder.access import holder_route
from app.api.holder.wire import DeletedPictureBody, PictureListBody, PictureObject
from app.api.image_content import POST_ONLY_NAMES
from app.api.organization.paging import object_response
from app.api.parameters import CLAMPED_INTEGER, invalid_value_error, parse_query_integer
from app.api.response_body import build_image_link
from app.api.state import get_app_state, get_edge_settings
from app.api.tasks import DEFAULT_LIMIT, MAX_TASKS, TASK_ID, TASKS_PER_READ
from app.domain.images import Picture
from app.domain.job import Job, TaskStatus
from app.domain.money import format_micros
from app.domain.principal import Principal
from app.domain.queries import TaskQuery


@holder_route
async def index(request: Request, principal: Principal) -> Response:
    """Your pictures, newest first, as long as they are kept: those of `limit` tasks at a time, so
    that a page may hold more pictures than that, or none when they were deleted."""
    query = _parse_query(request)
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


def _parse_query(request: Request) -> TaskQuery:
    query = request.query_params
    after = query.get("after")
    if after is not None and TASK_ID.fullmatch(after) is None:
        raise invalid_value_error("after", "after must be a task id.")
    limit = parse_query_integer(query, "limit", DEFAULT_LIMIT, CLAMPED_INTEGER)
    return TaskQuery(min(max(limit, 1), MAX_TASKS), after, status=TaskStatus.COMPLETED)


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
