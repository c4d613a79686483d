"""Words that nobody should find anywhere but where they belong (S5, S18, S45-S48, S51).

A gateway as an operator runs it, logging all it can, is led through every success and every
failure it knows; then everything it said, wrote and kept is searched for words planted before.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.sandbox.faults import FAULTS
from app.sandbox.server import Sandbox
from tests.contract.bad_bodies import BODIES
from tests.flow.command import Cli, Serving
from tests.flow.test_generate import GENERATE
from tests.harness import PRICED
from tests.security.trap import eventually

PROMPT = "c4n4ryPrompt"
REVISED = "c4n4ryRevised"
IDEMPOTENCY = "c4n4ryIdempotency"
UPSTREAM_KEY = "sk-sandbox"
ADMIN_KEY = "c4n4ryAdmin-1a2b3c4d5e"
METRICS_TOKEN = "c4n4ryMetrics-1a2b3c4d"

SLOW = {"hang", "headers-then-hang", "trickle", "cdn-hang", "cdn-slow"}
"""Faults with an argument that shortens them."""
LONG = {
    "gzip-bomb": "2", "huge-body": "1", "cdn-huge": "1", "headers-flood": "500",
    "continue-flood": "50", "json-deep": "500", "cdn-trickle": "0.001",
}  # fmt: skip


@dataclass
class Told:
    """Everything that left the gateway, by where it was found."""

    answers: list[str] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def note(self, answer: httpx.Response) -> None:
        """An answer's head and body; the links in it may be there, and nowhere else."""
        text = answer.text if "image/" not in answer.headers.get("content-type", "") else ""
        for part in text.split("sig=")[1:]:
            self.signatures.add(part[:43])
        self.answers.append(f"{answer.status_code} {dict(answer.headers)} {text}")


def tagged(name: str) -> str:
    argument = "0.05" if name in SLOW else LONG.get(name, "")
    return f"[fault:{name}={argument}]" if argument else f"[fault:{name}]"


async def every_fault(url: str, key: str, told: Told) -> None:
    """One generation with each fault of the sandbox, and the same without one."""
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=6, limits=limits) as c:

        async def one(n: int, name: str | None) -> None:
            prompt = f"{PROMPT} {n} {tagged(name) if name else ''}"
            marks = {"idempotency-key": f"{IDEMPOTENCY}-{n}"}
            body = {"prompt": prompt, "stream": n % 5 == 1}
            with contextlib.suppress(httpx.TransportError):
                told.note(await c.post(GENERATE, json=body, headers=marks))

        faults = list(enumerate([None, None, *FAULTS]))
        # After the provider's 429s and refusals of our key everybody pauses: those come last.
        for last in (False, True):
            now = [(n, name) for n, name in faults if pauses(name) is last]
            await asyncio.gather(*(one(n, name) for n, name in now))


def pauses(fault: str | None) -> bool:
    return fault is not None and any(word in fault for word in ("429", "401", "402", "403"))


def every_refusal(url: str, key: str, told: Told) -> None:
    """Bodies, headers and paths that are refused, each with a canary in it."""
    own = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=20) as client:
        for row in (row for row in BODIES if row.status != 200):
            body = row.body.replace(b"a koi", PROMPT.encode())
            sent = {k: v for k, v in row.headers.items() if v is not None}
            told.note(client.post(GENERATE, content=body, headers=own | sent))
        for headers in (
            {"authorization": f"Basic {key}"},
            {"authorization": f"Bearer {key}x"},
            {"authorization": f"Bearer {ADMIN_KEY}"},
            {"x-api-key": f"{key[:-1]}"},
            own | {"x-client-request-id": key},
            own | {"x-openai-prompt": PROMPT, "referer": f"https://koi.example/?key={key}"},
            own | {"idempotency-key": f"{IDEMPOTENCY} with a blank"},
            own | {"idempotency-key": IDEMPOTENCY * 30},
            own | {"cookie": f"key={key}; prompt={PROMPT}", "user-agent": f"sdk {PROMPT}"},
        ):
            told.note(client.post(GENERATE, json={"prompt": 7}, headers=headers))
        for path in (
            f"/v1/models?api_key={key}", f"/v1/tasks/{PROMPT}", f"/{PROMPT}/{key}",
            f"/v1/images/{PROMPT}.png?sig={PROMPT}", f"/v1/models/{key}", f"/v1/tasks?limit={key}",
            f"/metrics?token={METRICS_TOKEN}", f"/v1/tasks/a?wait={PROMPT}",
        ):  # fmt: skip
            told.note(client.get(path, headers=own))
        for role in (ADMIN_KEY, METRICS_TOKEN, None):
            sent = {} if role is None else {"authorization": f"Bearer {role}"}
            for path in ("/metrics", "/v1/organization/costs?start_time=1", "/livez", "/readyz"):
                told.note(client.get(path, headers=sent))
        told.note(client.request("FOO", f"/{PROMPT}"))
        picture = client.post(GENERATE, json={"prompt": f"{PROMPT} linked"}, headers=own)
        told.note(picture)
        link = picture.json()["data"][0]["url"]
        told.note(httpx.get(link))
        told.note(httpx.get(link[:-2] + "AA"))


def store_at(path: Path) -> redis.Redis:
    [socket] = (path / ".koi").rglob("store.sock") or [None]
    assert socket is not None
    return redis.Redis(unix_socket_path=str(socket))


def with_a_traceback(serving: Serving, path: Path, cli: Cli, told: Told) -> None:
    """A record of another type, as a foreign program might leave it: a bug's own way through."""
    key = cli.key("eve")
    told.keys.add(key)
    with store_at(path) as store:
        [jobs] = [name for name in store.scan_iter() if name.endswith(b"jobs:ann")]
        store.set(jobs.replace(b"jobs:ann", b"jobs:eve"), b"no list")
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.get(f"{serving.url}/v1/tasks?{PROMPT}", headers=headers)
    told.note(answer)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "Traceback" in serving.log.read_text()
    posted = httpx.post(f"{serving.url}{GENERATE}", headers=headers, json={"prompt": PROMPT})
    told.note(posted)
    assert posted.status_code == 500


def with_the_store_away(serving: Serving, path: Path, key: str, told: Told) -> None:
    with store_at(path) as store:
        server = store.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        for n in range(4):
            headers = {"authorization": f"Bearer {key}", "idempotency-key": f"{IDEMPOTENCY}a{n}"}
            body = {"prompt": f"{PROMPT} away {n}"}
            with contextlib.suppress(httpx.TransportError):
                told.note(httpx.post(f"{serving.url}{GENERATE}", headers=headers, json=body))
    finally:
        os.kill(server, signal.SIGCONT)
    usage = f"{serving.url}/v1/usage"
    eventually(lambda: httpx.get(usage, headers=headers, timeout=5).status_code == 200)


def values(store: redis.Redis) -> Iterator[bytes]:
    """Every name and value, uncompressed (a dump may be compressed, and hide a word)."""
    read: dict[bytes, Any] = {
        b"string": store.get,
        b"hash": store.hgetall,
        b"zset": lambda key: store.zrange(key, 0, -1),
        b"stream": store.xrange,
        b"list": lambda key: store.lrange(key, 0, -1),
        b"set": store.smembers,
    }
    for name in store.scan_iter():
        yield name + b" " + repr(read[store.type(name)](name)).encode()


def files_of(path: Path) -> Iterator[bytes]:
    """All that was written to disk, but for the pictures themselves."""
    for file in path.rglob("*"):
        if file.is_file() and "images" not in file.parts and file.name != "serve.log":
            yield str(file).encode() + b" " + file.read_bytes()


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    return Cli(
        tmp_path,
        {
            "KOI_UPSTREAM_BASE_URL": sandbox.url,
            "KOI_UPSTREAM_API_KEY": UPSTREAM_KEY,
            "KOI_UPSTREAM_POLL_INTERVAL_S": "0.2",
            "KOI_UPSTREAM_TIMEOUT_S": "1.5",
            "KOI_TASK_DEADLINE_S": "2",
            "KOI_RESOLVE_AFTER_S": "0.5",
            "KOI_REDIS_TIMEOUT_MS": "700",
            "KOI_ADMIN_KEY": ADMIN_KEY,
            "KOI_METRICS_TOKEN": METRICS_TOKEN,
            "KOI_CATALOG": str(PRICED),
            "KOI_LOG_LEVEL": "debug",
        },
    )


def test_no_canary_leaves_its_cage(cli: Cli, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set(revised_prompt="absent")
    told = Told()
    key = cli.key()
    told.keys.add(key)
    with cli.forked() as serving:
        every_refusal(serving.url, key, told)
        with_a_traceback(serving, tmp_path, cli, told)
        asyncio.run(every_fault(serving.url, key, told))  # from here on the provider's 429s and
        with_the_store_away(serving, tmp_path, key, told)  # refusals of our key make us pause
        with store_at(tmp_path) as store:
            kept = b"\n".join(values(store))
        said = operator_reads(cli)
        serving.stop(signal.SIGABRT)
    logged = serving.log.read_text()
    on_disk = b"\n".join(files_of(tmp_path)).decode("latin-1")
    answered = "\n".join(told.answers)
    places = {
        "log": logged, "store": kept.decode("latin-1"), "disk": on_disk, "operator": said,
        "answers": answered,
    }  # fmt: skip
    secrets = {UPSTREAM_KEY, ADMIN_KEY, METRICS_TOKEN, PROMPT, IDEMPOTENCY, *told.keys}

    found = [(place, word) for place, text in places.items() for word in secrets if word in text]
    signed = [place for place, text in places.items() for s in told.signatures if s in text]
    assert found == []
    assert set(signed) <= {"answers"}
    assert len(told.answers) > 150
    assert told.signatures
    assert "unforeseen" in logged
    assert "koi_request_duration_seconds" in answered
    assert "Traceback" not in answered


def operator_reads(cli: Cli) -> str:
    """Every command that shows something."""
    tasks = cli.json("tasks", "list", "--user", "ann", "--limit", "100")
    said = [repr(tasks), cli.text("tasks", "show", tasks[0]["id"])]
    said += [repr(cli.json("tasks", "show", task["id"])) for task in tasks[:20]]
    for words in (
        ("keys", "list"), ("users", "list"), ("users", "show", "ann"), ("ledger", "export"),
        ("usage", "--by", "user,key,model"),
    ):  # fmt: skip
        said += [cli.text(*words), cli.text(*words, "--json")]
    said += [cli.process(*words).stdout for words in (("doctor",), ("ledger", "check"))]
    return "\n".join(said)


def test_what_the_provider_says_back_is_kept_with_the_task_and_goes_with_it(
    cli: Cli, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A revised prompt and the sentence of a refusal belong to their answer, for as long as it
    can be read again (30 days, as its picture), and to the journal that a rebuild reads; what
    stays holds neither."""
    key = cli.key()
    headers = {"authorization": f"Bearer {key}"}
    with cli.forked() as serving, store_at(tmp_path) as store:
        for prompt in (REVISED, f"[fault:400={REVISED} is no good] {REVISED}"):
            answer = httpx.post(
                f"{serving.url}{GENERATE}", headers=headers, json={"prompt": prompt}, timeout=20
            )
            assert REVISED in answer.text
        holding = [line.split(b" ")[0] for line in values(store) if REVISED.encode() in line]
        lives = [store.pttl(name) for name in holding]
        logged = serving.log.read_text()
        exported = cli.text("ledger", "export")
    files = {
        file.relative_to(tmp_path / ".koi").as_posix()
        for file in (tmp_path / ".koi").rglob("*")
        if file.is_file() and REVISED.encode() in file.read_bytes()
    }

    assert all(file.endswith(".jobs.jsonl") or "appendonly" in file for file in files), files
    assert {name.split(b":")[3 if b"{ledger}" in name else 2] for name in holding} == {
        b"job",
        b"cache",
    }
    assert all(0 < life <= 31 * 86_400_000 for life in lives)
    assert REVISED not in logged
    assert REVISED not in exported
