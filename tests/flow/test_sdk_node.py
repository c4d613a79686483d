"""The official Node SDK, unchanged but for its baseURL, over a real socket."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.flow.conftest import Start
from tests.harness import Koi

NODE = Path(__file__).parent.parent / "sdk" / "node"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / "openai").is_dir(),
    reason="needs node and `npm ci` in tests/sdk/node",
)


def caller(koi: Koi, step: str, *more: str) -> dict[str, Any]:
    ran = subprocess.run(
        ["node", "caller.mjs", koi.v1, koi.key(), step, *more],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_node_generates_and_opens_the_link(koi: Koi) -> None:
    seen = caller(koi, "generate")

    assert (seen["images"], seen["type"]) == (2, "image/jpeg")
    assert seen["bytes"] > 1000
    assert seen["id"].startswith("req_")


def test_node_gets_base64_and_may_send_nulls(koi: Koi) -> None:
    assert caller(koi, "b64")["bytes"] > 1000


def test_node_polls_a_task(koi: Koi) -> None:
    seen = caller(koi, "task")

    assert (seen["first"], seen["last"]) == ("queued", "completed")


def test_node_streams(koi: Koi) -> None:
    assert caller(koi, "stream")["events"] == ["image_generation.completed"]


def test_node_throws_its_own_exception_with_our_code(koi: Koi) -> None:
    seen = caller(koi, "refused")

    assert (seen["name"], seen["status"], seen["param"]) == ("BadRequestError", 400, "n")
    assert seen["id"].startswith("req_")


def test_a_failing_provider_gets_one_post_from_node(koi: Koi) -> None:
    seen = caller(koi, "failing")

    assert (seen["name"], seen["code"]) == ("InternalServerError", "upstream_error")
    assert koi.sandbox.posts == 1


@pytest.mark.parametrize("heartbeat_after_s", [0, 45])
def test_an_impatient_node_gets_its_picture_for_one_charge(
    start: Start, heartbeat_after_s: float
) -> None:
    koi = start(heartbeat_after_s=heartbeat_after_s)
    koi.sandbox.set(latency_s=1.5)

    assert caller(koi, "impatient")["images"] == 1
    assert koi.sandbox.posts == 1


def test_node_lists_models(koi: Koi) -> None:
    assert caller(koi, "models")["ids"] == ["grok-imagine"]
