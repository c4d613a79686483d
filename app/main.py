"""The ASGI application: routes, one middleware, one lifespan. Importing opens nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.direct_routes import DirectRoutes
from app.api.errors import handle_gateway_error, handle_http_exception
from app.api.middleware import EdgeMiddleware
from app.api.routes import ROUTES
from app.api.settings import EdgeSettings
from app.api.state import AppState, LifespanState
from app.domain.errors import GatewayError

GatewayOpener = Callable[[], AbstractAsyncContextManager[AppState]]


class GatewayApp(FastAPI):
    """FastAPI with the edge as its outermost layer, which calls the routes of this app's table
    itself. What no route takes, and the lifespan, is the framework's."""

    def build_middleware_stack(self) -> ASGIApp:
        return EdgeMiddleware(DirectRoutes(super().build_middleware_stack(), self.routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


def create_app(
    open_gateway: GatewayOpener | None = None, edge_settings: EdgeSettings | None = None
) -> FastAPI:
    """The gateway as an ASGI app; `open_gateway` is entered by the lifespan.

    Without it the gateway of the environment's settings is opened. `edge_settings` replaces the
    edge settings that come with the opened gateway.
    """
    opened = open_gateway or _open_from_settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[LifespanState]:
        async with opened() as running:
            yield {"running": running, "edge": edge_settings or running.edge_settings}

    return GatewayApp(
        routes=[*ROUTES],
        lifespan=lifespan,
        exception_handlers={
            GatewayError: handle_gateway_error,
            HTTPException: handle_http_exception,
            RequestValidationError: handle_http_exception,
        },
        # Koi serves the schema itself (`app.api.docs`), so that a setting can hide it.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The framework's own telemetry would record request bodies (S53).
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )


def factory() -> FastAPI:
    """For `uvicorn --factory app.main:factory`."""
    return create_app()


def _open_from_settings() -> AbstractAsyncContextManager[AppState]:
    # Not at the top: a test that brings its own gateway needs no adapters.
    from app.settings import Settings  # noqa: PLC0415
    from app.wiring.gateway import open_gateway  # noqa: PLC0415

    return open_gateway(Settings())
