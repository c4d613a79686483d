"""Contract tests: the whole edge on a real socket; a stand-in gateway behind it."""

from collections.abc import Iterator

import openai
import pytest

from app.api.settings import EdgeSettings
from app.main import create_app
from tests.contract.door import Door, sdk, served
from tests.contract.stand_in import Stage, opener

ADMIN_KEY = "koi-admin-0123456789abcdef"
METRICS_TOKEN = "koi-metrics-0123456789abcdef"
QUICK = {
    "first_byte_timeout_s": 1.0,
    "head_timeout_s": 1.0,
    "body_timeout_s": 1.0,
    "heartbeat_interval_s": 0.05,
    "comment_interval_s": 0.05,
}


def _door(**settings: object) -> Iterator[Door]:
    stage = Stage()
    edge = EdgeSettings(**{**QUICK, **settings})  # type: ignore[arg-type]
    with served(create_app(opener(stage, edge))) as (host, port):
        yield Door(host, port, stage=stage)


@pytest.fixture(scope="session")
def _plain_door() -> Iterator[Door]:
    yield from _door()


@pytest.fixture(scope="session")
def _strict_door() -> Iterator[Door]:
    yield from _door(strict=True)


@pytest.fixture(scope="session")
def _admin_door() -> Iterator[Door]:
    yield from _door(
        admin_key=ADMIN_KEY.encode(),
        metrics_token=METRICS_TOKEN.encode(),
        heartbeat_after_s=0.1,
        allowed_hosts=("127.0.0.1", "koi.example"),
        cors_origins=("https://friend.example",),
        public_url="https://koi.example/gate/",
    )


def _fresh(door: Door) -> Door:
    door.stage.reset()
    return door


@pytest.fixture
def door(_plain_door: Door) -> Door:
    """Settings as shipped; no admin key."""
    return _fresh(_plain_door)


@pytest.fixture
def strict_door(_strict_door: Door) -> Door:
    return _fresh(_strict_door)


@pytest.fixture
def admin_door(_admin_door: Door) -> Door:
    """Admin key, metrics token, heartbeats, host and origin lists, a public URL."""
    return _fresh(_admin_door)


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    """The official SDK, as ann."""
    with sdk(door) as client:
        yield client
