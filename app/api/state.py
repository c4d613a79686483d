"""What a request finds when it arrives: the open gateway, its settings, and its access record.

The scope is an untyped mapping, so every key of it that Koi uses is read here and nowhere else.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypedDict

from starlette.requests import Request
from starlette.types import Scope

from app.api.disconnect import Peer, PeerState
from app.api.settings import EdgeSettings
from app.service.gateway import Gateway

PEER_KEY = "koi.present"
"""Scope key of the `Peer`, by which a request learns whether its caller is still there."""
ABORT_KEY = "koi.cut"
"""Scope key under which a connection lets its requests end it in the middle of an answer."""
ANSWER_KEY = "koi.answer"
"""Scope key under which a connection takes a whole answer at once."""
RECORD_KEY = "koi.exchange"
FIELDS_KEY = "koi.fields"
"""Scope key of the first value of each header by its name, in lower case."""

RawHeaders = list[tuple[bytes, bytes]]
TakeAnswer = Callable[[int, RawHeaders, bytes], bool]
"""Sends status, headers and body, unless they must wait; says whether it did."""
ReadinessCheck = Callable[[], Awaitable[tuple[bool, dict[str, str]]]]


class EdgeMetrics(Protocol):
    """What the edge reports. Nothing here raises."""

    content_type: str

    def render(self) -> bytes: ...

    def observe_request(
        self,
        route: str,
        method: str,
        status: int,
        seconds: float,
        overhead_s: float | None,
        cache: str | None = None,
    ) -> None: ...

    def in_flight(self, delta: int) -> None: ...

    def refused(self, code: str) -> None: ...

    def egress_override(self) -> None: ...


class AppState(Protocol):
    """An open gateway, as `app.wiring.gateway.open_gateway` yields it."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def edge_settings(self) -> EdgeSettings: ...

    @property
    def metrics(self) -> EdgeMetrics: ...

    @property
    def readiness(self) -> ReadinessCheck:
        """Whether new work should come here, and a status word per part."""

    @property
    def is_alive(self) -> Callable[[], bool]: ...


class LifespanState(TypedDict):
    """What the lifespan puts into the scope of every request."""

    running: AppState
    edge: EdgeSettings


class AccessRecord:
    """One request as its access line and its metrics will tell it; filled in on the way.

    `started_s` is a monotonic clock. `upstream_s` is the share of the time that the provider took,
    None while unknown. `waited` is true once the answer depended on somebody else's time.
    `late_status` is the true status of a failure that came after the status line was sent.
    `moderation_code` is the code that this caller expects when its prompt is refused. `reason` is
    why a key was refused; only the log may say it. `stamp` are the headers of every answer, and
    `cleanups` are called when the request is over, however it ended.
    """

    deployment: str | None = None
    client_request_id: str | None = None
    status: int = 0
    late_status: int | None = None
    code: str | None = None
    user: str | None = None
    key_id: str | None = None
    reason: str | None = None
    task_id: str | None = None
    cache: str | None = None
    tag: str | None = None
    upstream_s: float | None = None
    waited: bool = False
    moderation_code: str = "content_policy_violation"

    def __init__(self, request_id: str, started_s: float) -> None:
        self.request_id, self.started_s = request_id, started_s
        self.stamp: RawHeaders = []
        self.cleanups: list[Callable[[], None]] = []


def get_scope_access_record(scope: Scope) -> AccessRecord:
    record: AccessRecord = scope[RECORD_KEY]
    return record


def get_access_record(request: Request) -> AccessRecord:
    return get_scope_access_record(request.scope)


def is_client_connected(request: Request) -> bool:
    """Whether the caller is still there, as far as the server can tell."""
    return get_peer_state(request) is PeerState.CONNECTED


def get_peer_state(request: Request) -> PeerState:
    peer = get_scope_peer(request.scope)
    return PeerState.CONNECTED if peer is None else peer.get_state()


def get_scope_peer(scope: Scope) -> Peer | None:
    """None under a server that is not Koi's own."""
    peer: Peer | None = scope.get(PEER_KEY)
    return peer


def get_scope_fields(scope: Scope) -> dict[bytes, bytes]:
    """The first value of each header; a server that is not Koi's own does not say."""
    fields: dict[bytes, bytes] | None = scope.get(FIELDS_KEY)
    # Reversed, so that the first of several wins.
    return dict(reversed(scope["headers"])) if fields is None else fields


def abort_connection(scope: Scope) -> None:
    """Hang up in the middle of the answer. A server that is not Koi's own sets no such key; it
    hangs up itself when it finds the answer unfinished."""
    hang_up: Callable[[], None] | None = scope.get(ABORT_KEY)
    if hang_up is not None:
        hang_up()


def get_scope_answer(scope: Scope) -> TakeAnswer | None:
    """None under a server that is not Koi's own."""
    answer: TakeAnswer | None = scope.get(ANSWER_KEY)
    return answer


def release_request(scope: Scope, record: AccessRecord) -> None:
    """Cut the rings of references in a request that is over. Otherwise all of it would stay until
    the collector's next pass of everything, which may be hours away."""
    scope.pop(ABORT_KEY, None)
    scope.pop(ANSWER_KEY, None)
    record.cleanups.clear()


def get_app_state(request: Request) -> AppState:
    state: LifespanState = request.scope["state"]
    return state["running"]


def get_scope_edge_settings(scope: Scope) -> EdgeSettings:
    state: LifespanState = scope["state"]
    return state["edge"]


def get_scope_metrics(scope: Scope) -> EdgeMetrics:
    state: LifespanState = scope["state"]
    return state["running"].metrics


def get_edge_settings(request: Request) -> EdgeSettings:
    return get_scope_edge_settings(request.scope)
