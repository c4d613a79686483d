"""A disk that takes nothing: callers hear it as an OpenAI error or not at all, never as a 500."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import KOI, Cli, generate, served_by
from tests.ports import free_port


@pytest.fixture
def cli(tmp_path: Path, sandbox: Sandbox, store_url: str) -> Cli:
    return Cli(
        tmp_path,
        {
            **served_by(sandbox.url),
            "KOI_REDIS_URL": store_url,
            "KOI_LOG_LEVEL": "debug",
        },
    )


@contextmanager
def logging_to_a_full_disk(cli: Cli, port: int, *words: str) -> Iterator[str]:
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [*KOI, "serve", "--port", str(port), *words],
            cwd=cli.path,
            env=cli.environment,
            stdout=full,
            stderr=full,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or status(url) == 200)
        assert process.poll() is None, process.poll()
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def status(url: str) -> int:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code
    except httpx.TransportError:
        return 0


def until(holds: Callable[[], bool], within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_takes_nothing_fails_no_request_and_no_job(
    cli: Cli, sandbox: Sandbox, workers: str
) -> None:
    key = cli.text("keys", "create", "--user", "ann", "--new").strip()
    with logging_to_a_full_disk(cli, free_port(), "--workers", workers) as url:
        made = [generate(url, key, f"koi {number}") for number in range(4)]
        sandbox.script("502-html")
        failed = generate(url, key, "another")
        pictures = [httpx.get(one.json()["data"][0]["url"]) for one in made]
        wrong = httpx.get(f"{url}/v1/nothing")

    assert [one.status_code for one in made] == [200] * 4
    assert [one.status_code for one in pictures] == [200] * 4
    assert wrong.status_code == 404
    assert failed.json()["error"]["code"]


@pytest.mark.parametrize("words", [["--help"], ["users", "list"], ["ledger", "export"]], ids=str)
def test_a_command_whose_answer_cannot_be_written_says_so(cli: Cli, words: list[str]) -> None:
    cli.text("users", "create", "ann")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*KOI, *words],
            cwd=cli.path,
            env=cli.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.startswith("koi: Standard output cannot be written")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB for the data directory."""
    place = tmp_path / ".koi"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_a_full_data_disk_is_503_in_openai_form_until_there_is_room(
    cli: Cli, sandbox: Sandbox, small_disk: Path, response_format: str
) -> None:
    key = cli.text("keys", "create", "--user", "ann", "--new").strip()
    with cli.forked() as serving:
        before = generate(serving.url, key, "before", response_format=response_format)
        assert before.status_code == 200
        filler = small_disk / "filler"
        fill(filler)
        until(lambda: status(serving.url) == 503)
        answers = [
            generate(serving.url, key, f"during {number}", response_format=response_format)
            for number in range(4)
        ]
        filler.unlink()
        until(lambda: status(serving.url) == 200)
        after = generate(serving.url, key, "after", response_format=response_format)

    assert [answer.status_code for answer in answers] == [503] * 4
    for answer in answers:
        assert answer.json()["error"]["code"] == "ledger_unavailable"
        assert "nothing was spent" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "true"
    assert sandbox.posts == 2
    assert after.status_code == 200


def fill(filler: Path) -> None:
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
