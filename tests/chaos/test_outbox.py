"""What the store could not be told outlives the process that has it in its outbox."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.sandbox.server import Sandbox
from tests.chaos.crowd import GENERATE
from tests.chaos.gateways import Deployment, Variant, deployed
from tests.harness import KOI, quick_sandbox
from tests.store_node import until as eventually


@contextmanager
def frozen_store(deployment: Deployment) -> Iterator[None]:
    store = deployment.the_store()
    os.kill(store, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store, signal.SIGCONT)


def until(sandbox: Sandbox, posts: int) -> None:
    deadline = time.monotonic() + 10
    while sandbox.posts < posts:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_picture_delivered_without_a_store_is_settled_by_the_next_process(
    tmp_path: Path,
) -> None:
    """Sync mode, where nobody can ask the provider again."""
    with (
        quick_sandbox() as sandbox,
        deployed(Variant("outbox", ("sync",)), sandbox, tmp_path) as deployment,
        ThreadPoolExecutor() as pool,
    ):
        sandbox.set(latency_s=1)
        (gateway,) = deployment.gateways
        headers = {
            "authorization": f"Bearer {deployment.koi.key()}",
            "idempotency-key": "order-1",
        }
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            waiting = pool.submit(client.post, GENERATE, json=KOI)
            until(sandbox, posts=1)
            with frozen_store(deployment):
                delivered = waiting.result()
                gateway.kill()
            gateway.start()
            gateway.wait_until_ready()

            audit = deployment.koi.settled()
            again = client.post(GENERATE, json=KOI)

        (entry,) = deployment.koi.entries()
        assert delivered.status_code == again.status_code == 200
        assert (
            again.json()["data"][0]["url"].partition("?")[0]
            == (delivered.json()["data"][0]["url"].partition("?")[0])
        )
        assert (entry.images, entry.delivered, entry.presumed) == (1, 1, 0)
        assert (sandbox.posts, sandbox.billed_images) == (1, 1)
        assert audit.difference == 0
        # The file goes a moment after the store has what it says.
        owed = tmp_path / "koi" / "journal" / "owed"
        eventually(lambda: not list(owed.iterdir()), "nothing is owed")


def test_a_task_id_that_came_without_a_store_is_followed_by_the_next_process(
    tmp_path: Path,
) -> None:
    with (
        quick_sandbox() as sandbox,
        deployed(Variant("outbox", ("auto",)), sandbox, tmp_path) as deployment,
        ThreadPoolExecutor() as pool,
    ):
        sandbox.script("trickle=0.03")
        (gateway,) = deployment.gateways
        headers = {"authorization": f"Bearer {deployment.koi.key()}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            pool.submit(client.post, GENERATE, json=KOI)
            until(sandbox, posts=1)
            with frozen_store(deployment):
                outbox = tmp_path / "koi" / "journal" / "owed"
                deadline = time.monotonic() + 10
                while not (outbox.is_dir() and list(outbox.glob("task_*.json"))):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                gateway.kill()
            gateway.start()
            deployment.koi.settled()

        (entry,) = deployment.koi.entries()
        assert (entry.delivered, entry.presumed) == (1, 0)
        assert sandbox.posts == 1


def test_files_that_are_no_messages_delay_no_other(tmp_path: Path) -> None:
    """Empty, cut and foreign ones lie before the message that can be delivered."""
    with (
        quick_sandbox() as sandbox,
        deployed(Variant("outbox", ("sync",)), sandbox, tmp_path) as deployment,
        ThreadPoolExecutor() as pool,
    ):
        sandbox.set(latency_s=1)
        (gateway,) = deployment.gateways
        outbox = tmp_path / "koi" / "journal" / "owed"
        headers = {"authorization": f"Bearer {deployment.koi.key()}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            waiting = pool.submit(client.post, GENERATE, json=KOI)
            until(sandbox, posts=1)
            with frozen_store(deployment):
                delivered = waiting.result()
                gateway.kill()
            (message,) = outbox.glob("*.json")
            (outbox / "a-copy.json").write_bytes(message.read_bytes())
            (outbox / "b-empty.json").write_bytes(b"")
            (outbox / "c-cut.json").write_bytes(message.read_bytes()[:40])
            (outbox / "d-directory.json").mkdir()
            gateway.start()
            gateway.wait_until_ready()
            deployment.koi.settled()

        (entry,) = deployment.koi.entries()
        assert delivered.status_code == 200
        assert (entry.images, entry.delivered, entry.presumed) == (1, 1, 0)
        assert sandbox.billed_images == 1
        deadline = time.monotonic() + 10
        while list(outbox.glob("*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        names = {file.name.partition(".")[0] for file in (outbox / "damaged").iterdir()}
        assert names == {"a-copy", "b-empty", "c-cut", "d-directory"}
