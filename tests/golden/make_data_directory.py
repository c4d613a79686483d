"""Writes `upgrade/directory.tar.gz` and `upgrade/shown.json` with an earlier version of Koi.

    git worktree add ../before <commit> && python -m tests.golden.make_data_directory ../before

It starts that version's gateway with the embedded store and its sandbox, makes users, keys and jobs
of every kind, leaves some of them open, and kills everything. What the earlier version shows of
that directory, and what it makes of the open jobs, is kept beside it. Takes a minute or two.
"""

import argparse
import gzip
import io
import json
import os
import shutil
import signal
import socket
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.golden.data_directory import ARCHIVE, CATALOG, DAY_MS, SHOWN
from tests.golden.earlier_version import EarlierVersion, Running, Sandbox, gateway, until
from tests.golden.provider import serving

LEFT_OUT = ("lock", "store.sock", "server.log")


def create_users(earlier: EarlierVersion) -> dict[str, str]:
    """Users, teams, keys and limits; the keys' secrets by name."""
    earlier.koi("teams", "create", "art", "--images-per-month", "500", "--budget-per-month", "100")
    earlier.koi("teams", "create", "idle", "--concurrency", "3")
    earlier.koi("users", "create", "ann", "--team", "art", "--images-per-day", "200")
    earlier.koi("users", "create", "bob", "--budget-per-day", "50", "--requests-per-minute", "600")
    earlier.koi("users", "create", "cid", "--team", "idle", "--response-format", "b64_json")
    earlier.koi("users", "create", "dan", "--cache", "off")
    keys = {
        "ann": earlier.koi("keys", "create", "--user", "ann", "--images-per-day", "150"),
        "bob": earlier.koi("keys", "create", "--user", "bob", "--name", "notebook"),
        "cid": earlier.koi("keys", "create", "--user", "cid", "--models", "grok-imagine"),
        "lent": earlier.koi("keys", "create", "--user", "bob", "--expires", "90d"),
        "lost": earlier.koi("keys", "create", "--user", "bob", "--concurrency", "1"),
    }
    earlier.koi("keys", "revoke", keys["lost"]["key_id"])
    earlier.koi("users", "disable", "dan")
    return {name: key["key"] for name, key in keys.items()}


def make_ended_jobs(earlier: EarlierVersion, koi: Running, keys: dict[str, str]) -> dict[str, Any]:
    """Jobs of every kind that are over; the answer to the one with an Idempotency-Key."""
    ann, bob, cid = keys["ann"], keys["bob"], keys["cid"]
    order = {"headers": {"idempotency-key": "order-1"}}
    answers = {
        "one": koi.generate(ann, "one"),
        "dear": koi.generate(ann, "dear", quality="hd", size="1536x1024"),
        "three": koi.generate(ann, "three", n=3),
        "bytes": koi.generate(cid, "bytes"),
        "order": koi.generate(bob, "order", **order),
        "cached": koi.generate(bob, "cached"),
        "again": koi.generate(bob, "cached"),
        "surplus": koi.generate(bob, "surplus [fault:more]", **{"async": True}),
        "sync": koi.generate(bob, "sync only", model="qwen-image-max"),
        "refused": koi.generate(bob, "refused [fault:moderation-400]"),
        "failed": koi.generate(bob, "failed [fault:task-failed]", **{"async": True}),
        "doubtful": koi.generate(bob, "doubtful [fault:reset-after-accept]", **{"async": True}),
    }
    for name, answer in answers.items():
        require(name, answer, 400 if name == "refused" else 200)
    for name in ("surplus", "failed", "doubtful"):
        task_id = answers[name].json()["id"]
        until(name, lambda id=task_id: koi.status(bob, id) in ("completed", "failed"))
    earlier.koi("stop-spending", "--user", "cid", "--reason", "A loop in your script.")
    require("stopped", koi.generate(cid, "stopped"), 403)
    earlier.koi("resume", "--user", "cid")
    require("resumed", koi.generate(cid, "resumed"), 200)
    earlier.koi("stop-spending", "--team", "idle", "--reason", "It is still being set up.")
    first = earlier.koi("tasks", "list", "--user", "ann")[-1]["id"]
    earlier.koi("ledger", "adjust", "--job", first, "--images", "-1", "--note", "refunded")
    earlier.koi("ledger", "adjust", "--user", "bob", "--model", "grok-imagine", "--images", "1",
               "--note", "from the bill")  # fmt: skip
    return answers["order"].json()


def require(name: str, answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise SystemExit(f"{name}: {answer.status_code} {answer.text}")


def leave_open_jobs(koi: Running, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A job in every state that a kill can leave it in."""
    ann, bob = keys["ann"], keys["bob"]
    asynchronous = {"async": True}
    sandbox.set(cdn_status=503)
    collecting = koi.generate(bob, "collecting", n=2, **asynchronous).json()["id"]
    until("collecting", lambda: koi.status(bob, collecting) == "collecting")
    running = koi.generate(ann, "running [fault:stuck-99]", **asynchronous).json()["id"]
    until("running", lambda: koi.status(ann, running) == "processing")
    posts = sandbox.posts
    # Of its two parts one is made and has pictures pending; the other was sent and never answered.
    sandbox.post("faults", faults=["ok", "hang"])
    koi.generate(ann, "half", n=3, **asynchronous)
    until("half", lambda: sandbox.posts == posts + 2)
    koi.leave(bob, "sent [fault:hang]")
    until("sent", lambda: sandbox.posts == posts + 3)
    # The provider has no place for more.
    koi.generate(ann, "reserved", **asynchronous)


def leave_outbox(koi: Running, sandbox: Sandbox, keys: dict[str, str], owed: Path) -> None:
    """What the provider answers while the store is away: pictures, and a task's id."""
    posts = sandbox.posts
    sandbox.set(latency_s=6)
    koi.leave(keys["bob"], "owed", model="qwen-image-max")
    koi.leave(keys["ann"], "owed too [fault:trickle=0.08]")
    until("sent", lambda: sandbox.posts == posts + 2)
    os.kill(koi.store_pid, signal.SIGSTOP)
    until("the outbox", lambda: len(list(owed.glob("*.json"))) == 2)


def known_tasks(shown: dict[str, Any], data: Path) -> dict[str, int]:
    """Provider tasks of jobs that are open or owed something, with their images."""
    tasks = {part["id"]: part["n"] for job in shown["tasks"] for part in job["upstream"]}
    for file in (data / "journal" / "owed").glob("*.json"):
        owed = json.loads(file.read_text())
        tasks[owed.get("upstream_id")] = 1
    return {id: n for id, n in tasks.items() if id is not None}


def pack(data: Path, names: dict[str, str]) -> None:
    """Without sockets and logs, and with equally long words in place of this machine's names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(data.rglob("*")):
            if path.name in LEFT_OUT or path.is_socket():
                continue
            member = tarfile.TarInfo(str(path.relative_to(data)))
            member.mtime, member.mode = int(path.stat().st_mtime), 0o600
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(member)
                continue
            body = path.read_bytes()
            for here, anywhere in names.items():
                body = body.replace(here.encode(), anywhere.encode())
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    ARCHIVE.write_bytes(gzip.compress(buffer.getvalue(), 9, mtime=0))


def placeholders(data: Path) -> dict[str, str]:
    """This machine's names -> equally long words, in every way that JSON in JSON writes them."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:16]
    host, parts = socket.gethostname(), data.parts[1:]
    found = {boot: "0123456789abcdef"}
    for slash in ("/", "\\/", "\\\\/", "\\\\\\/"):
        found[slash + slash.join(parts)] = slash + slash.join(_word(len(part)) for part in parts)
    for quote in ('"', '\\"'):
        said = f"{quote}host{quote}:{quote}"
        found[f"{said}{host}{quote}"] = f"{said}{_word(len(host))}{quote}"
    return found


def _word(length: int) -> str:
    return ("gateway-1" + "-" * length)[:length]


def times(data: Path) -> tuple[int, int]:
    """The first and the last millisecond that the journal tells of."""
    lines = [
        line for file in data.glob("journal/*.jsonl") for line in file.read_text().splitlines()
    ]
    found = [json.loads(line)["at_ms"] for line in lines]
    if min(found) // DAY_MS != max(found) // DAY_MS:
        raise SystemExit("midnight came in between: run this again")
    return min(found), max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    checkout = parser.parse_args().checkout.resolve()
    root = Path(tempfile.mkdtemp(prefix="koi-golden-"))
    data = root / "data"
    earlier = EarlierVersion(
        checkout, root, {"KOI_DATA_DIR": str(data), "KOI_CATALOG": str(CATALOG)}
    )
    earlier.require_own_code()
    sandbox = Sandbox(earlier)
    earlier.settings |= {
        "KOI_UPSTREAM_BASE_URL": sandbox.url,
        "KOI_UPSTREAM_API_KEY": "sk-sandbox",
        "KOI_UPSTREAM_POLL_INTERVAL_S": "0.2",
        "KOI_UPSTREAM_CONCURRENCY": "4",
        "KOI_UPSTREAM_TIMEOUT_S": "60",
        "KOI_CACHE_VARIANTS": "1",
        "KOI_RESOLVE_AFTER_S": "1",
    }
    keys = create_users(earlier)
    try:
        with gateway(earlier, "first") as koi:
            answer = make_ended_jobs(earlier, koi, keys)
            leave_open_jobs(koi, sandbox, keys)
        earlier.settings["KOI_UPSTREAM_CONCURRENCY"] = "8"
        with gateway(earlier, "second") as koi:
            leave_outbox(koi, sandbox, keys, data / "journal" / "owed")
    finally:
        sandbox.process.kill()
        sandbox.process.wait()
    first_ms, last_ms = times(data)
    pack(data, placeholders(data))
    shown = earlier.show()
    tasks = known_tasks(shown, data)
    with serving(tasks) as provider:
        links = {str(old): str(provider.port) for old in sandbox.ports}
        move_links(data, links)
        earlier.settings["KOI_UPSTREAM_BASE_URL"] = f"http://127.0.0.1:{provider.port}/v1"
        with gateway(earlier, "third"):
            until("all is over", lambda: is_over(earlier))
        after = earlier.show()
    written = {
        "commit": earlier.commit(),
        "first_ms": first_ms, "last_ms": last_ms, "provider_ports": sandbox.ports,
        "provider_tasks": tasks, "keys": keys, "order": answer, "shown": shown, "after": after,
    }  # fmt: skip
    text = json.dumps(written, indent=1)
    for here, anywhere in placeholders(data).items():
        text = text.replace(here, anywhere)
    SHOWN.write_text(text + "\n")
    shutil.rmtree(root)


def move_links(data: Path, ports: dict[str, str]) -> None:
    for path in [*data.glob("store/appendonlydir/*.aof"), *data.glob("journal/**/*.json*")]:
        body = path.read_bytes()
        for old, new in ports.items():
            body = body.replace(f"127.0.0.1:{old}".encode(), f"127.0.0.1:{new}".encode())
        path.write_bytes(body)


def is_over(earlier: EarlierVersion) -> bool:
    tasks = earlier.koi("tasks", "list", "--limit", "100")
    return all(
        job["status"] in ("completed", "failed") and job["state"] in ("settled", "released")
        for job in tasks
    )


if __name__ == "__main__":
    main()
