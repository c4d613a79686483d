"""The `koi` command as an operator runs it: a process, its output, its exit code."""

import asyncio
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.cli.root import run
from app.settings import build_settings
from app.wiring.operator import open_operator_context
from tests.chaos.forks import ForkedCommand
from tests.harness import ONE_KEY_FOR_ALL, PRICED
from tests.plain_logs import configure_plain_logs

ROOT = Path(__file__).parents[2]
KOI = [sys.executable, "-m", "app.cli"]


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str

    def expected(self, code: int) -> "Done":
        assert self.code == code, self
        assert "Traceback" not in self.stderr
        return self


@dataclass
class Serving:
    """A running `koi serve`."""

    process: "subprocess.Popen[bytes] | ForkedCommand"
    url: str
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, event: str, times: int = 1, within_s: float = 60) -> list[dict[str, Any]]:
        deadline = time.monotonic() + within_s
        while len(found := self.events(event)) < times:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return found

    def stop(self, number: int = signal.SIGTERM, within_s: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)


def served_by(url: str) -> dict[str, str]:
    """Settings of a deployment whose provider is the sandbox at this URL. Its store is waited for:
    on a busy machine half a second is soon over."""
    return {
        "KOI_UPSTREAM_BASE_URL": url,
        "KOI_UPSTREAM_API_KEY": "sk-sandbox",
        "KOI_UPSTREAM_POLL_INTERVAL_S": "0.05",
        "KOI_CATALOG": str(PRICED),
        "KOI_REDIS_TIMEOUT_MS": "3000",
    }


def cli_on(path: Path, store_url: str, **settings: str) -> "Cli":
    """The operator's commands, on the store of the gateway under test."""
    here = {"KOI_REDIS_URL": store_url, "KOI_DATA_DIR": str(path / "koi")}
    return Cli(path, {**here, "KOI_CATALOG": str(PRICED), **settings})


@dataclass
class Cli:
    """The command on one deployment: a directory to run in, and its settings as variables."""

    path: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        around = {name: text for name, text in os.environ.items() if not name.startswith("KOI_")}
        plenty = {f"KOI_{name.upper()}": str(value) for name, value in ONE_KEY_FOR_ALL.items()}
        ours = {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        return {**around, **plenty, **ours, **self.settings}

    def run(self, *words: str, given: bytes | None = None, code: int = 0) -> Done:
        """Run one command in this process, which saves the second that a new one takes to start;
        anything but the expected exit code fails the test. `given` comes through a pipe."""
        out, err = io.StringIO(), io.StringIO()
        with (
            _around(self.path, self.environment),
            nullcontext() if given is None else _standard_input(given),
            _logs_as_before(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            ended = run(words)
        return Done(ended, out.getvalue(), err.getvalue()).expected(code)

    def process(self, *words: str, code: int = 0) -> Done:
        """The same as a process of its own, as an operator would run it."""
        done = subprocess.run(
            [*KOI, *words],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr).expected(code)

    def fork(self, *words: str, code: int = 0) -> str:
        """All that it says as a process forked from one that has loaded Koi already: for what has
        to be a process of its own, where how that starts is not the subject."""
        log = self.path / "command.log"
        log.write_bytes(b"")
        process = ForkedCommand(words, self.path, self.environment, log)
        try:
            ended = process.wait(60)
        finally:
            process.kill()
            process.wait()
        return Done(ended, "", log.read_text()).expected(code).stderr

    def text(self, *words: str) -> str:
        return self.run(*words).stdout

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def refused(self, *words: str, code: int) -> str:
        """What a failing command says, without the notice of a slow machine (`Working …`)."""
        done = self.run(*words, code=code)
        assert done.stdout == ""
        lines = done.stderr.splitlines(keepends=True)
        said = "".join(line for line in lines if not line.endswith(" …\n"))
        assert said.startswith("koi: "), done.stderr
        return said

    def key(self, user: str = "ann") -> str:
        """A fresh key, without the second that a process takes to start."""

        async def issue() -> str:
            settings = build_settings(data_dir=self.path / ".koi")
            async with open_operator_context(settings) as operator:
                return (await operator.keys.issue(user)).secret

        return asyncio.run(issue())

    @contextmanager
    def serving(self, *words: str, ready: bool = True) -> Iterator[Serving]:
        """`koi serve` on a free port, ready; killed at the end if it still runs."""
        log = self.path / "serve.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*KOI, "serve", "--port", "0", *words],
                cwd=self.path,
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        with _watched(Serving(process, "", log), ready) as serving:
            yield serving

    @contextmanager
    def forked(self, *words: str, ready: bool = True) -> Iterator[Serving]:
        """Like `serving`, from a process that has loaded Koi already. For tests of what a gateway
        does; those of the command and its process start a real one."""
        log = self.path / "serve.log"
        log.write_bytes(b"")
        command = ("serve", "--port", "0", *words)
        process = ForkedCommand(command, self.path, self.environment, log)
        with _watched(Serving(process, "", log), ready) as serving:
            yield serving


@contextmanager
def _watched(serving: Serving, ready: bool) -> Iterator[Serving]:
    try:
        serving.url = serving.wait_for("listening")[0]["url"]
        if ready:
            _wait_until_ready(serving)
        yield serving
    finally:
        serving.process.kill()
        serving.process.wait()


@contextmanager
def _around(path: Path, environment: dict[str, str]) -> Iterator[None]:
    before, there = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(there)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _standard_input(given: bytes) -> Iterator[None]:
    """A pipe at descriptor 0, which commands may also open by a name like `/dev/stdin`."""
    reader, writer = os.pipe()
    os.write(writer, given)
    os.close(writer)
    before, kept = sys.stdin, os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        with open(0, closefd=False) as sys.stdin:
            yield
    finally:
        sys.stdin = before
        os.dup2(kept, 0)
        os.close(kept)


@contextmanager
def _logs_as_before() -> Iterator[None]:
    """A command sets up logging for its own streams."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        configure_plain_logs()
        root.handlers[:] = handlers
        root.setLevel(level)


def _wait_until_ready(serving: Serving) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{serving.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert serving.process.poll() is None, serving.log.read_text()
        time.sleep(0.02)
    raise AssertionError(serving.log.read_text())


def generate(url: str, key: str, prompt: str = "a koi", **fields: Any) -> httpx.Response:
    """One request, without the repeats of an SDK."""
    return httpx.post(
        f"{url}/v1/images/generations",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "grok-imagine", "prompt": prompt, **fields},
        timeout=30,
    )


def persist(url: str, key: str, prompt: str) -> httpx.Response:
    """The same with the two repeats an SDK makes of a 503."""
    for pause_s in (0.5, 1.0):
        answer = generate(url, key, prompt)
        if answer.status_code != 503 or answer.headers["x-should-retry"] != "true":
            return answer
        time.sleep(pause_s)
    return generate(url, key, prompt)
