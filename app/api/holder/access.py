"""Routes of holders: who asks, and bodies that are read as strictly as an administrator's."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.organization.refusals import translate
from app.api.parameters import Body, unknown_parameter_error
from app.api.request_body import read_json
from app.domain.principal import Principal
from app.service.admin_errors import AdminError

Handler = Callable[[Request, Principal], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def holder_route(handler: Handler) -> Endpoint:
    """A route for whoever has a user's key or a session of one."""

    async def endpoint(request: Request) -> Response:
        principal = await authenticate_request(request)
        try:
            return await handler(request, principal)
        except AdminError as error:
            raise translate(error) from error

    # Not `functools.wraps`: the schema would take the second parameter for a query's.
    endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
    return endpoint


async def read_fields(request: Request, known: frozenset[str]) -> Body:
    """The body without unknown fields. Raises what `authenticate_request` does, too: a body may
    take its time, and the key may have ended meanwhile."""
    body = await read_json(request)
    await authenticate_request(request)
    for name in body:
        if name not in known:
            raise unknown_parameter_error(name)
    return body
