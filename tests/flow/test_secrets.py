"""Canaries: a prompt and keys nobody should find anywhere but where they belong."""

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import redis

from app.sandbox.server import Sandbox
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, PRICED, environment

PROMPT = "canary-prompt-9f3b a koi"
ADMIN = "canary-admin-key-77a1c2"


def test_prompts_and_keys_are_in_no_metric_error_header_or_store_entry(
    start: Start, store_url: str
) -> None:
    koi = start(admin_key=ADMIN)
    key = koi.key()
    seen: list[str] = []
    with koi.client(key) as client:
        for fault in (
            None,
            "500",
            "400",
            "hang",
            "html-200",
            "moderation-400",
            "reset-after-accept",
        ):
            if fault is not None:
                koi.sandbox.script(fault)
            ask = {**KOI, "prompt": f"{PROMPT} {fault}"}
            answer = client.post(GENERATE, json=ask)
            seen.append(repr(answer.headers) + re.sub(r'"revised_prompt":"[^"]*"', "", answer.text))
        seen.append(client.get("/metrics", headers={"authorization": f"Bearer {ADMIN}"}).text)
    with redis.Redis.from_url(store_url, decode_responses=False) as store:
        seen.extend(repr(name) + repr(store.dump(name)) for name in store.scan_iter("*"))

    text = "\n".join(seen)
    assert "koi_request_duration_seconds" in text
    assert key not in text
    assert "sk-sandbox" not in text
    assert ADMIN not in text
    assert "canary-prompt" not in text


def test_logs_hold_no_prompt_key_or_signed_link(
    sandbox: Sandbox, store_url: str, tmp_path: Path
) -> None:
    variables = environment(
        upstream_base_url=sandbox.url,
        upstream_api_key="sk-sandbox",
        upstream_poll_interval_s="0.1",
        redis_url=store_url,
        data_dir=str(tmp_path / "koi"),
        catalog=str(PRICED),
        log_level="debug",
        port="0",
    )
    issued = subprocess.run(
        [sys.executable, "-m", "app.cli", "keys", "create", "--user", "ann", "--json"],
        env=variables, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    key = re.search(r'"key":\s*"([^"]+)"', issued.stdout).group(1)  # type: ignore[union-attr]
    port = _free_port()
    log = tmp_path / "log"
    with log.open("w") as sink:
        serving = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port)],
            env=variables, stdout=sink, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _ready(port)
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20
        ) as client:
            good = client.post(GENERATE, json={**KOI, "prompt": PROMPT})
            link = good.json()["data"][0]["url"]
            httpx.get(link)
            sandbox.script("500")
            client.post(GENERATE, json={**KOI, "prompt": PROMPT + "2"})
            client.post(GENERATE, content=b'{"prompt": "' + PROMPT.encode())
            client.get(f"/v1/models?api_key={key}")
    finally:
        serving.terminate()
        serving.wait(timeout=20)
    text = log.read_text()

    assert good.headers["x-request-id"] in text
    assert key not in text
    assert "sk-sandbox" not in text
    assert "canary-prompt" not in text
    assert link.split("sig=")[1] not in text


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError("koi serve did not become ready")
