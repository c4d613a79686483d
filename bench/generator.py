"""A running load generator: it is given tasks and answers with reports."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.children import LOAD_CORE, ChildFailed, clean_environment, settle_in

NO_ENV: Mapping[str, str] = {}
PROGRAM = Path(__file__).with_name("load.py")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and which answer is a good one. `load.MARK` in the body makes each differ."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 200
    expected: str = ""
    """Text that the beginning of a good answer contains."""
    waits: tuple[float, float] | None = None
    """Between how many seconds the stub takes for it; not counted as latency."""


class Dialogue:
    """A process that reads lines of JSON and answers each with one, in turn."""

    def __init__(self, command: Sequence[str], core: int, env: Mapping[str, str] = NO_ENV) -> None:
        self._name = command[-1]
        self._process = subprocess.Popen(
            command,
            env=clean_environment() | dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: settle_in(core),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the oldest message that has none yet. Raises `ChildFailed`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"{self._name} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class LoadGenerator(Dialogue):
    """One process on the core of the load; it does one task after another."""

    def __init__(self, core: int = LOAD_CORE) -> None:
        super().__init__([sys.executable, str(PROGRAM)], core)

    def begin(self, request: Request, **how: float) -> None:
        """Give it a task: `connections` in a closed loop for `duration_s`, `rate` a second for
        `duration_s`, or `requests` one after another."""
        sent = {
            "url": request.url,
            "method": request.method,
            "headers": request.headers,
            "body": request.body,
            "waits": request.waits,
        }
        self.tell({"request": sent, "status": request.status, "expected": request.expected, **how})

    def report(self) -> dict[str, Any]:
        """Wait for the report of the task that was given. Raises `ChildFailed`."""
        return self.hear()

    def do(self, request: Request, **how: float) -> dict[str, Any]:
        self.begin(request, **how)
        return self.report()
