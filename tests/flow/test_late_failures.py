"""A failure after heartbeats: the status is out, so the connection is cut, and the log is quiet."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.api.disconnect import PeerState
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, Serving, generate, served_by
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, quick_sandbox


@pytest.fixture
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        sandbox.set(latency_s=1)
        yield sandbox


@pytest.fixture
def cli(provider: Sandbox, tmp_path: Path) -> Cli:
    return Cli(
        tmp_path,
        {
            **served_by(provider.url),
            "KOI_HEARTBEAT_AFTER_S": "0.1",
            "KOI_CACHE_POLICY": "off",
        },
    )


def raw(url: str, key: str, version: str) -> bytes:
    """Everything a client gets until the end; a reset is an error, as for any client."""
    address = urlsplit(url)
    body = b'{"prompt": "in an old form"}'
    head = (
        f"POST /v1/images/generations HTTP/{version}\r\nHost: koi\r\nAuthorization: Bearer {key}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=20) as wire:
        wire.sendall(head.encode() + body)
        got = b""
        while piece := wire.recv(4096):
            got += piece
        return got


def test_a_failure_after_heartbeats_is_a_cut_a_status_in_the_log_and_no_error_of_the_server(
    cli: Cli, provider: Sandbox
) -> None:
    provider.script("task-failed")
    with cli.forked() as serving:
        key = cli.key()
        with pytest.raises(httpx.RemoteProtocolError):
            generate(serving.url, key, "first")
        told = generate(serving.url, key, "first")
        line = _posted(serving)
        task = httpx.get(
            f"{serving.url}/v1/tasks/{told.json()['error']['task_id']}",
            headers={"authorization": f"Bearer {key}"},
        ).json()
        assert serving.stop() == 0

    assert (line["status"], line["code"]) == (502, "upstream_error")
    assert (told.status_code, task["status"]) == (502, "failed")
    assert provider.posts == 1
    _quiet(serving)


def test_an_unfinished_chunked_answer_and_a_reset_tell_old_and_new_clients_alike(
    cli: Cli, provider: Sandbox
) -> None:
    provider.script("task-failed", "task-failed")
    with cli.forked() as serving:
        chunked = raw(serving.url, cli.key("ann"), "1.1")
        with pytest.raises(ConnectionResetError):
            raw(serving.url, cli.key("bob"), "1.0")
        whole = raw(serving.url, cli.key("eve"), "1.0")
        assert serving.stop() == 0

    assert b"200 OK" in chunked
    assert not chunked.endswith(b"0\r\n\r\n")
    assert whole.rstrip().endswith(b"}")
    _quiet(serving)


def test_a_wait_that_ends_after_heartbeats_is_cut_and_the_repeat_joins_the_job(
    cli: Cli, provider: Sandbox
) -> None:
    provider.set(latency_s=3)
    cli.settings["KOI_SYNC_WAIT_S"] = "1"
    with cli.forked() as serving:
        key = cli.key()
        with pytest.raises(httpx.RemoteProtocolError):
            generate(serving.url, key, "slow")
        assert _posted(serving)["code"] == "still_processing"
        for _ in range(20):
            try:
                again = generate(serving.url, key, "slow")
                break
            except httpx.RemoteProtocolError:
                continue
        assert serving.stop() == 0

    assert again.status_code == 200
    assert provider.posts == 1
    _quiet(serving)


def test_a_client_that_left_before_the_server_read_of_it_is_no_error_of_the_server(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    koi = start(heartbeat_after_s=0.1, cache_policy="off")
    koi.sandbox.set(latency_s=0.5)
    with koi.client() as client:
        with client.stream("POST", GENERATE, json=KOI) as answer:
            # What the kernel knows, and the event loop reads in its next turn.
            monkeypatch.setattr("app.server.peer.probe_peer", lambda _: PeerState.DISCONNECTED)
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        monkeypatch.undo()
        again = client.post(GENERATE, json=KOI)

    assert again.status_code == 200
    assert koi.sandbox.posts == 1
    assert "ASGI" not in caplog.text


def _posted(serving: Serving) -> dict[str, object]:
    serving.wait_for("request")
    return next(line for line in serving.events("request") if line["method"] == "POST")


def _quiet(serving: Serving) -> None:
    log = serving.log.read_text()
    assert "ASGI" not in log
    assert "Traceback" not in log
    assert '"level":"error"' not in log.replace(" ", "")
