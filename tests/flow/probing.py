"""Probes of sandboxes: many at once in this process, and one as a process that can be killed."""

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.domain.catalog import Model, parse_catalog
from app.probe.answers import ANSWERS_FILE, Answers
from app.probe.calls import ProviderAccess
from app.probe.conversation import Operator, ProbeStep, converse
from app.probe.facts import ProviderFacts, read_facts
from app.probe.profile_file import profile_toml
from app.probe.questions import Terms
from app.probe.report import ReportHead, report_markdown
from app.sandbox.recorded import read_recorded
from app.sandbox.server import Sandbox
from tests.flow.command import KOI, Cli
from tests.harness import PRICED
from tests.ports import free_port

LATENCY_S = 0.5
HEAD = ReportHead("the sandbox", "now", "0.14 CNY")
STEPS = (ProbeStep.FREE, ProbeStep.PAID, ProbeStep.AFTER)


def default_model() -> Model:
    found = parse_catalog(PRICED.read_text()).find("grok-imagine")
    assert found is not None
    return found


@dataclass
class Probed:
    """What one probe of one sandbox found, and what the sandbox says of it."""

    facts: ProviderFacts
    profile: str
    report: str
    paid: int
    billed: int


@dataclass
class Probing:
    """A sandbox with a directory for the answers about it."""

    name: str
    sandbox: Sandbox
    directory: Path
    terms: Terms = field(default_factory=lambda: Terms(default_model(), 60, hang_up_s=0.1))

    async def run(self, *steps: ProbeStep) -> Probed:
        access = ProviderAccess(self.sandbox.url, Sandbox.key, 30, 0.05, 0.0)
        operator = Operator(lambda _text: None, lambda: False)
        with Answers(self.directory) as answers:
            await converse(access, self.terms, answers, operator, *(steps or STEPS))
            facts = read_facts(answers)
            return Probed(
                facts,
                profile_toml(facts, self.name, self.terms.model.name),
                report_markdown(answers, facts, self.terms, HEAD),
                answers.images_paid,
                self.sandbox.billed_images,
            )


def run_all(probings: list[Probing]) -> dict[str, Probed]:
    """All at the same time: most of a probe is waiting."""

    async def together() -> list[Probed]:
        return await asyncio.gather(*(probing.run() for probing in probings))

    return {p.name: probed for p, probed in zip(probings, asyncio.run(together()), strict=True)}


def quick(sandbox: Sandbox, **switches: Any) -> Sandbox:
    """Pictures that cost no time, and the same latency for all."""
    sandbox.start_with(latency_s=LATENCY_S, picture_style="plain", api_latency=False, **switches)
    return sandbox


@contextmanager
def sandboxes(names: list[str], directory: Path) -> Iterator[list[Probing]]:
    """One sandbox for each built-in profile."""
    with ExitStack() as stack:
        yield [
            Probing(name, stack.enter_context(quick(Sandbox(name))), directory / name)
            for name in names
        ]


@contextmanager
def played_back(first: dict[str, Probed], directory: Path) -> Iterator[list[Probing]]:
    """One sandbox for each profile that a probe wrote."""
    with ExitStack() as stack:
        probings = []
        for name, probed in first.items():
            file = directory / f"{name}.toml"
            file.write_text(probed.profile)
            recorded = read_recorded(file)
            sandbox = quick(Sandbox(recorded.profile), **recorded.switches)
            probings.append(Probing(name, stack.enter_context(sandbox), directory / f"2-{name}"))
        yield probings


@dataclass
class ProbeProcess:
    """`koi probe` as an operator runs it."""

    cli: Cli

    def start(self, *words: str, answer: str | None = None) -> "subprocess.Popen[str]":
        """`answer` is what they type; without it standard input is empty."""
        process = subprocess.Popen(
            [*KOI, "probe", *words],
            cwd=self.cli.path,
            env=self.cli.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        if answer is not None:
            process.stdin.write(f"{answer}\n")
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, *words: str, answer: str | None = None, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error."""
        given = b"" if answer is None else f"{answer}\n".encode()
        done = self.cli.run("probe", *words, given=given, code=code)
        return done.stdout, done.stderr

    def records(self, event: str) -> list[dict[str, Any]]:
        lines = (self.cli.path / "koi-probe" / ANSWERS_FILE).read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["event"] == event]


def bought(sandbox: Sandbox) -> Counter[bytes]:
    """Bodies that were sent with our key, and how often."""
    ours = ("authorization", f"Bearer {Sandbox.key}")
    return Counter(
        request.body
        for request in sandbox.requests
        if request.method == "POST" and ours in request.headers
    )


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running_sandbox(cli: Cli, profile: str) -> Iterator[str]:
    """`koi sandbox` as a process; its URL."""
    port = free_port()
    process = subprocess.Popen(
        [*KOI, "sandbox", "--profile", profile, "--port", str(port)],
        cwd=cli.path,
        env=cli.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "sandbox provider at" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=30)
