"""`koi stop-spending`: the switch for the moment something goes wrong."""

from typing import Any

import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.flow.test_quota import user
from tests.harness import KOI, Koi, gateway
from tests.store_node import until


def stop(koi: Koi, scope: str, reason: str = "We look into it") -> None:
    koi.operate(lambda operator: operator.keys.stop_spending(scope, reason))


def resume(koi: Koi, scope: str) -> bool:
    return koi.operate(lambda operator: operator.keys.resume_spending(scope))


def bought(koi: Koi, key: str, prompt: str) -> tuple[int, str | None]:
    with koi.client(key) as client:
        answer = client.post(GENERATE, json={**KOI, "prompt": prompt})
    error = answer.json().get("error")
    assert error is None or answer.headers["x-should-retry"] == "false"
    return answer.status_code, error and error["code"]


@pytest.mark.parametrize(("scope", "stopped"), [
    ("house", {"ann", "bob", "cy"}), ("team:blue", {"ann", "bob"}), ("user:ann", {"ann"}),
])  # fmt: skip
def test_a_stop_refuses_its_scope_at_once_on_every_gateway_until_it_is_resumed(
    start: Start, tmp_path: Any, scope: str, stopped: set[str]
) -> None:
    koi = start()

    async def found(operator: Any) -> None:
        await operator.keys.create_team("blue", operator.settings.default_limits)
        for name in ("ann", "bob"):
            await operator.keys.create_user(name, team="blue")

    koi.operate(found)
    keys = {name: koi.key(name) for name in ("ann", "bob", "cy")}
    url = koi.settings.redis_url
    assert url is not None
    with gateway(koi.sandbox, url, koi.settings.data_dir) as second:
        stop(koi, scope)
        for there in (koi, second):
            for name, key in keys.items():
                wanted = (403, "spending_stopped") if name in stopped else (200, None)
                assert bought(there, key, f"{name} {there.url}") == wanted
        assert resume(koi, scope)
        assert not resume(koi, scope)
        assert bought(second, keys["ann"], "again") == (200, None)


def test_a_stop_says_why_leaves_what_runs_and_what_is_cached_alone(koi: Koi) -> None:
    key = user(koi, "ann")
    with koi.client(key) as client:
        client.post(GENERATE, json={**KOI, "prompt": "cached"})
        koi.sandbox.set(latency_s=1)
        task = client.post(GENERATE, json={**KOI, "prompt": "runs", "async": True}).json()
        until(lambda: koi.sandbox.posts == 2, "it runs")
        stop(koi, "house", "The provider   charges\ntwice")
        refused = client.post(GENERATE, json={**KOI, "prompt": "new"})
        old = {"cache-control": "only-if-cached"}
        hit = client.post(GENERATE, json={**KOI, "prompt": "cached"}, headers=old)
        done = client.get(f"/v1/tasks/{task['id']}?wait=20").json()

    assert "The provider charges twice." in refused.json()["error"]["message"]
    assert hit.headers["x-koi-cache"] == "hit"
    assert done["status"] == "completed"
