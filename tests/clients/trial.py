"""One client led through one scenario: what the provider was asked, what it charges, what the
client's user saw."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.clients.process import Driver, Said
from tests.clients.scenarios import Scenario
from tests.harness import Koi

WITHIN_S = 120
QUIET_S = 2.5


@dataclass(frozen=True)
class Outcome:
    """`pictures` that are whole and distinct; `lacks`: the client has no such option; `unmeasured`
    says why nobody knows."""

    client: str
    scenario: str
    posts: int = 0
    bills: int = 0
    pictures: int = 0
    error: str = ""
    seconds: float = 0.0
    lacks: bool = False
    unmeasured: str = ""

    def problems(self, scenario: Scenario) -> list[str]:
        """What contradicts the scenario, in words. Pictures are the client's matter when it got
        an answer (some keep the first one only), so none at all is what counts."""
        if self.lacks or self.unmeasured:
            return []
        found = []
        if self.posts > scenario.posts:
            found.append(f"{self.posts} POSTs, {scenario.posts} at most")
        if self.bills > scenario.bills:
            found.append(f"{self.bills} images billed, {scenario.bills} at most")
        if scenario.pictures and (self.error or not self.pictures):
            found.append(f"no picture: {self.error}")
        return found

    def as_json(self, scenario: Scenario) -> dict[str, Any]:
        return {**asdict(self), "problems": self.problems(scenario)}


def play(koi: Koi, driver: Driver, scenario: Scenario) -> Outcome:
    """The gateway was started with the scenario's settings; the sandbox is as if just started."""
    client = driver.client.name
    user = f"{client}-{scenario.name}"
    koi.operate(lambda operator: _create(operator, user, scenario))
    key = koi.key(user)
    if scenario.before is not None:
        koi.sandbox.set(latency_s=0.05)
        scenario.before(koi, key)
    return _measured(koi.sandbox, driver, scenario, (koi.v1, key), lambda: koi.settled(within_s=40))


def play_beside(place: tuple[str, str], sandbox: Sandbox, driver: Driver, s: Scenario) -> Outcome:
    """The same with another gateway at `place`: its base URL and the one key that it has."""
    if s.limits is not None:
        lack = "keys with limits need a database there"
        return Outcome(driver.client.name, s.name, unmeasured=lack)
    return _measured(sandbox, driver, s, place, lambda: _quiet(sandbox))


def _measured(
    sandbox: Sandbox,
    driver: Driver,
    scenario: Scenario,
    place: tuple[str, str],
    settled: Callable[[], object],
) -> Outcome:
    sandbox.set(picture_style="plain", **scenario.switches)
    sandbox.script(*scenario.script)
    posts, bills = sandbox.posts, sandbox.billed_images
    said, seconds = _call(place, driver, scenario)
    if any(one.get("lacks") for one in said):
        return Outcome(driver.client.name, scenario.name, lacks=True)
    settled()
    return Outcome(
        driver.client.name,
        scenario.name,
        sandbox.posts - posts,
        sandbox.billed_images - bills,
        len(_pictures(said)),
        "; ".join(sorted({one["error"] for one in said if not one["ok"]})),
        seconds,
    )


def _quiet(sandbox: Sandbox) -> None:
    """Returns when nothing reached the provider for a while: a gateway that knows no jobs cannot
    say whether it still repeats one."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_S:
        if sandbox.posts != seen:
            seen, since = sandbox.posts, time.monotonic()
        time.sleep(0.05)


def _call(place: tuple[str, str], driver: Driver, scenario: Scenario) -> tuple[list[Said], float]:
    began = time.monotonic()
    prompt = f"a koi of {driver.client.name}"
    calls = [
        driver.begin(base_url=place[0], key=place[1], prompt=f"{prompt} {number}", **scenario.call)
        for number in range(scenario.calls)
    ]
    said = [call.result(WITHIN_S) for call in calls]
    return said, round(time.monotonic() - began, 1)


async def _create(operator: OperatorContext, user: str, scenario: Scenario) -> None:
    await operator.keys.create_user(user, limits=scenario.limits, cache=scenario.cache)


def _pictures(said: Sequence[Said]) -> set[str]:
    """Digests of all pictures: those sent as base64, and those behind links that open."""
    digests = {one["sha256"] for answer in said if answer["ok"] for one in answer["b64"]}
    links = [link for answer in said if answer["ok"] for link in answer["urls"]]
    with httpx.Client(timeout=20) as client:
        for link in links:
            answer = client.get(link)
            if answer.status_code == 200 and answer.headers["content-type"].startswith("image/"):
                digests.add(hashlib.sha256(answer.content).hexdigest())
    return digests
