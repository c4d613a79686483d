"""Runs gateways of an earlier version and of this one on one Redis, as a rolling restart does.

    git worktree add ../before <commit> && python -m tests.golden.rolling_restart ../before

Each check goes both ways: what one version began, the other must answer, join, finish or refuse.
Needs `redis-server`; exits with 1 and the names of the checks that failed. Takes some minutes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.golden.data_directory import CATALOG
from tests.golden.earlier_version import EarlierVersion, Running, Sandbox, gateway, until

HERE = Path(__file__).parents[2]
ASYNC = {"async": True}
STOP_S = 4.0
"""So long a gateway may go on before it reads that spending was stopped."""


@dataclass
class Deployment:
    """Both versions in one data directory and on one store, with the keys of two users."""

    earlier: EarlierVersion
    today: EarlierVersion
    sandbox: Sandbox
    redis_port: int
    ann: str = ""
    bob: str = ""
    failed: list[str] = field(default_factory=list)

    def check(self, name: str, good: bool, *seen: object) -> None:
        print("ok  " if good else "FAIL", name, *(seen if not good else ()), flush=True)
        self.failed += [] if good else [name]

    def task(self, koi: Running, task_id: str, wait_s: float = 10) -> dict[str, Any]:
        answer = httpx.get(
            f"{koi.url}/v1/tasks/{task_id}",
            params={"wait": wait_s},
            headers={"authorization": f"Bearer {self.ann}"},
            timeout=60,
        )
        return dict(answer.json())

    def ends(self, koi: Running, task_ids: list[str]) -> bool:
        """Whether all are completed once they are over."""
        over = ("completed", "failed")
        for task_id in task_ids:
            until(task_id, lambda id=task_id: self.task(koi, id)["status"] in over)
        return all(self.task(koi, id)["status"] == "completed" for id in task_ids)


def picture(answer: httpx.Response) -> str:
    if answer.status_code != 200:
        raise SystemExit(f"{answer.status_code} {answer.text}")
    return str(answer.json()["data"][0]["url"]).partition("?")[0].rpartition("/")[2]


def check_pair(both: Deployment, one: Running, other: Running, way: str) -> None:
    """What `one` began, seen from `other`."""
    ann, bob, box = both.ann, both.bob, both.sandbox
    order = {"headers": {"idempotency-key": f"order-{way}"}}
    first, posts = one.generate(bob, f"order {way}", n=2, **order), box.posts
    again = other.generate(bob, f"order {way}", n=2, **order)
    both.check(f"{way}: an Idempotency-Key is answered", picture(first) == picture(again))
    reused = other.generate(bob, f"something else {way}", **order)
    both.check(f"{way}: its reuse is refused", reused.status_code == 422, reused.text)
    first = one.generate(ann, f"cached {way}")
    cached = other.generate(ann, f"cached {way}")
    both.check(f"{way}: the cache is shared", picture(first) == picture(cached))
    both.check(f"{way}: nothing was bought twice", box.posts == posts + 1, box.posts - posts)
    url = first.json()["data"][0]["url"].replace(one.url, other.url)
    both.check(f"{way}: links are valid", httpx.get(url).status_code == 200)
    box.set(latency_s=2)
    task_id = one.generate(ann, f"task {way}", n=3, **ASYNC).json()["id"]
    began_s = time.monotonic()
    both.check(f"{way}: a task is waited for", both.task(other, task_id)["status"] == "completed")
    both.check(f"{way}: and its end is heard", time.monotonic() - began_s < 8)
    posts = box.posts
    with suppress(httpx.HTTPError):
        httpx.post(
            f"{one.url}/v1/images/generations",
            headers={"authorization": f"Bearer {bob}"},
            json={"model": "grok-imagine", "prompt": f"left {way}"},
            timeout=1,
        )
    other.generate(bob, f"left {way}")
    both.check(f"{way}: who hung up joins", box.posts == posts + 1, box.posts - posts)
    box.set(latency_s=0.05)


def check_together(both: Deployment, gateways: list[Running]) -> None:
    """Both at the same moment."""
    both.sandbox.set(latency_s=1)
    order = {"headers": {"idempotency-key": "at-once"}}
    posts = both.sandbox.posts
    with ThreadPoolExecutor(8) as pool:
        ask = [pool.submit(koi.generate, both.bob, "at once", **order) for koi in gateways * 2]
        found = {picture(one.result()) for one in ask}
    both.check("one key at both at once: one picture", len(found) == 1, found)
    both.check("and one POST", both.sandbox.posts == posts + 1)
    both.sandbox.set(latency_s=0.3, concurrency=4)
    with ThreadPoolExecutor(16) as pool:
        ask = [pool.submit(gateways[i % 2].generate, both.ann, f"load {i}") for i in range(20)]
        statuses = {one.result().status_code for one in ask}
    both.check("the provider's places are shared", statuses == {200}, statuses)
    told = any("upstream_rate_limited" in koi.log.read_text() for koi in gateways)
    both.check("it refused nobody", not told)
    both.sandbox.set(latency_s=0.05, concurrency=None)


def check_operators(both: Deployment, gateways: list[Running]) -> None:
    for at_work, lifts in ((both.earlier, both.today), (both.today, both.earlier)):
        at_work.koi("stop-spending", "--user", "bob", "--reason", "a test")
        time.sleep(STOP_S)
        stopped = {koi.generate(both.bob, "stopped").status_code for koi in gateways}
        both.check("a stop holds at both", stopped == {403}, stopped)
        lifts.koi("resume", "--user", "bob")
        time.sleep(STOP_S)
        resumed = {koi.generate(both.bob, "resumed").status_code for koi in gateways}
        both.check("and is lifted at both", resumed == {200}, resumed)


def check_death(both: Deployment, dies: Running, stays: Running, way: str) -> None:
    """Killed with open tasks and, in the end, pictures that cannot be fetched yet."""
    both.sandbox.set(latency_s=3, cdn_status=503)
    orders = [1, 2, 3]
    tasks = [
        dies.generate(both.ann, f"left open {way} {n}", n=n, **ASYNC).json()["id"] for n in orders
    ]
    time.sleep(1)
    dies.process.kill()
    dies.process.wait()
    until("collecting", lambda: both.task(stays, tasks[2], 1)["status"] == "collecting")
    both.sandbox.set(latency_s=0.05, cdn_status=None)
    both.check(f"{way}: open tasks are finished", both.ends(stays, tasks))


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what an earlier version does not show of a task, or shows otherwise once it is over:
    what it holds, and whether each of its parts has ended."""
    kept = [{name: value for name, value in row.items() if name != "held"} for row in rows]
    for row in kept:
        if row.get("state") in ("settled", "released"):
            row["upstream"] = [part | {"ended": True} for part in row["upstream"]]
    return kept


def check_ledger(both: Deployment) -> Any:
    """Both read the same, and the provider's bill agrees; the usage."""
    until("all is over", lambda: both.today.koi("ledger", "check")["open_jobs"] == 0)
    found = [version.koi("ledger", "check") for version in (both.earlier, both.today)]
    both.check("the ledger balances for both", found[0] == found[1] and not found[0]["difference"])
    for words in (("users", "list"), ("keys", "list"), ("tasks", "list", "--limit", "500")):
        shown = [alike(version.koi(*words)) for version in (both.earlier, both.today)]
        both.check(f"both show the same {words[0]}", shown[0] == shown[1])
    usage = [v.koi("usage", "--by", "user,model,size,day") for v in (both.earlier, both.today)]
    both.check("both add up the same", usage[0]["rows"] == usage[1]["rows"])
    ledger = httpx.get(f"{both.sandbox.url.removesuffix('/v1')}/__sim/ledger").json()
    images = usage[1]["total"]["images"]
    both.check("and as much as was billed", images == ledger["billed_images"], images)
    return usage[1]["rows"]


def check_rebuild(both: Deployment, gateways: list[Running]) -> None:
    """A journal that both wrote is read by each."""
    for version in (both.today, both.earlier):
        rows = check_ledger(both)
        redis.Redis(port=both.redis_port).flushall()
        refused = {koi.generate(both.bob, "lost").status_code for koi in gateways}
        both.check("a loss is noticed by both", refused == {503}, refused)
        done = version.koi("ledger", "rebuild")
        both.check("nothing is forgotten", not done["forgotten"] and not done["difference"], done)
        usage = version.koi("usage", "--by", "user,model,size,day")
        both.check("the rebuilt ledger adds up the same", usage["rows"] == rows)
        again = {koi.generate(both.bob, f"again {koi.url} {rows}").status_code for koi in gateways}
        both.check("and both spend again", again == {200}, again)


@contextmanager
def store(path: Path, port: int) -> Iterator[None]:
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(path)]
    process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            until("the store", lambda: _answers(client))
        yield
    finally:
        process.kill()
        process.wait()


def _answers(client: "redis.Redis") -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def version(checkout: Path, path: Path, **settings: str) -> EarlierVersion:
    path.mkdir()
    found = EarlierVersion(checkout, path, settings)
    found.require_own_code()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--redis-port", type=int, default=28_471)
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="koi-rolling-"))
    sandbox = Sandbox(version(HERE, root / "sandbox"))
    settings = {
        "KOI_DATA_DIR": str(root / "data"),
        "KOI_CATALOG": str(CATALOG),
        "KOI_REDIS_URL": f"redis://127.0.0.1:{asked.redis_port}/0",
        "KOI_UPSTREAM_BASE_URL": sandbox.url,
        "KOI_UPSTREAM_API_KEY": "sk-sandbox",
        "KOI_UPSTREAM_POLL_INTERVAL_S": "0.2",
        "KOI_UPSTREAM_CONCURRENCY": "4",
        "KOI_UPSTREAM_TIMEOUT_S": "60",
        "KOI_CACHE_VARIANTS": "1",
    }
    try:
        with store(root, asked.redis_port):
            earlier = version(asked.checkout.resolve(), root / "earlier", **settings)
            today = version(HERE, root / "today", **settings)
            both = Deployment(earlier, today, sandbox, asked.redis_port)
            run(both)
    finally:
        sandbox.process.kill()
        sandbox.process.wait()
    shutil.rmtree(root)
    print(f"{len(both.failed)} failed", *both.failed, sep="\n")
    return 1 if both.failed else 0


def run(both: Deployment) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(gateway(both.earlier, "first"))
        new = stack.enter_context(gateway(both.today, "first"))
        both.ann = both.earlier.koi("keys", "create", "--user", "ann", "--new")["key"]
        both.bob = both.today.koi("keys", "create", "--user", "bob", "--new")["key"]
        check_pair(both, old, new, "old-to-new")
        check_pair(both, new, old, "new-to-old")
        check_together(both, [old, new])
        check_operators(both, [old, new])
        check_death(both, old, new, "old-to-new")
        old = stack.enter_context(gateway(both.earlier, "second"))
        check_death(both, new, old, "new-to-old")
        new = stack.enter_context(gateway(both.today, "second"))
        check_rebuild(both, [old, new])
        check_ledger(both)


if __name__ == "__main__":
    sys.exit(main())
