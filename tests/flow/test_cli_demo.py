"""`koi demo` and `koi sandbox`, end to end."""

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.flow.command import KOI, Cli
from tests.ports import free_port


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """With settings of a real deployment around, which the demo must not touch."""
    return Cli(
        tmp_path,
        {
            "KOI_UPSTREAM_API_KEY": "sk-real",
            "KOI_UPSTREAM_BASE_URL": "http://127.0.0.1:9/v1",
            "KOI_REDIS_URL": "redis://127.0.0.1:9",
            "KOI_PORT": "not a port",
        },
    )


def test_the_demo_makes_a_picture_and_prints_how_to_go_on(cli: Cli) -> None:
    port = free_port()
    own = Cli(cli.path, {"KOI_DATA_DIR": ".koi-demo"})
    own.run("keys", "create", "--user", "demo", "--new", "--name", "koi demo")

    text = cli.process("demo", "--once", "--port", str(port)).stdout

    picture = (cli.path / "koi-demo.jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8\xff")
    assert "koi-demo.jpg  (1024x1024" in text
    assert "sandbox" in text
    assert re.search(r"task_[0-9a-f]{32}  \(cache: miss\)", text)
    assert re.search(r"\d+ ms for the same question  \(cache: hit\)", text)
    assert "1 image today (cost unknown" in text
    assert text.count("sk-koi-") == 4
    assert text.count(f"http://127.0.0.1:{port}/v1") == 4
    assert f"In a browser: http://127.0.0.1:{port}/\n" in text
    assert "KOI_UPSTREAM_API_KEY=… koi serve" in text
    assert "sk-real" not in text
    assert (cli.path / ".koi-demo/store").is_dir()
    statuses = sorted(key["status"] for key in own.json("keys", "list"))
    assert statuses == ["active", "revoked"], "an earlier demo's key ends"
    assert not (cli.path / ".koi").exists()


def test_the_demo_takes_the_next_port_and_serves_until_ctrl_c(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = subprocess.Popen(
            [*KOI, "demo", "--port", str(port), "--log-level", "info"],
            cwd=cli.path,
            env=cli.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "Serving until Ctrl-C" in line:
                break
        text = "".join(lines)
        url = re.findall(r"curl (http://[\d.:]+/v1)/images", text)[0]
        key = re.findall(r"Bearer (sk-koi-\S+?)'", text)[0]
        models = httpx.get(f"{url}/models", headers={"authorization": f"Bearer {key}"})
        beside = Cli(cli.path, {"KOI_DATA_DIR": ".koi-demo", "KOI_PORT": url.split(":")[2][:-3]})
        findings = json.loads(beside.process("doctor", "--json").stdout)

        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=20)

    assert f"Port {port} is taken" in text
    assert not url.endswith(f":{port}/v1")
    assert models.status_code == 200
    assert demo.returncode == 0
    assert "fail" not in {finding["status"] for finding in findings}
    provider = next(one["text"] for one in findings if one["check"] == "provider")
    assert provider == "no upstream key is set here; the gateways that run have one"
    assert "Traceback" not in rest
    assert "request_id=req_" in text, "the log says what `x-request-id` names"


def test_the_demo_says_what_is_wrong_with_the_port_of_the_environment(cli: Cli) -> None:
    assert "KOI_PORT" in cli.refused("demo", "--once", code=2)


def test_the_sandbox_alone_answers_and_ends_with_0(cli: Cli) -> None:
    port = free_port()
    sandbox = subprocess.Popen(
        [*KOI, "sandbox", "--port", str(port), "--time-scale", "0.01"],
        cwd=cli.path,
        env=cli.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sandbox.stdout is not None
        assert f"http://127.0.0.1:{port}/v1" in sandbox.stdout.readline()
        answer = httpx.get(
            f"http://127.0.0.1:{port}/v1/models", headers={"authorization": "Bearer sk-sandbox"}
        )
        assert answer.status_code == 200

        sandbox.terminate()

        assert sandbox.wait(10) == 0
    finally:
        sandbox.kill()
        sandbox.communicate()


def test_the_sandbox_says_which_profiles_there_are_and_which_port_is_taken(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        assert "doc-bare" in cli.refused("sandbox", "--profile", "none-such", code=2)
        assert f"ports {port}" in cli.refused("sandbox", "--port", port, code=1)


def test_a_picture_that_cannot_be_written_is_one_sentence(cli: Cli) -> None:
    (cli.path / "koi-demo.jpg").mkdir()

    done = cli.process("demo", "--once", "--port", str(free_port()), code=1)

    assert done.stderr.startswith("koi: Cannot write koi-demo.jpg here")
