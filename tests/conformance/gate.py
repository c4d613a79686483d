"""A gateway as the statements see it: an address, keys, and the provider behind it."""

import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai

from app.domain.limits import Limits
from app.sandbox.server import Sandbox
from tests.clients.litellm_proxy import MASTER_KEY, litellm_proxy
from tests.harness import Koi, gateway

Check = Callable[["Gate"], None]
C = TypeVar("C", bound=Check)
PATH = "/v1/images/generations"
MODEL = "grok-imagine"
ADMIN_KEY = "an-admin-key-of-good-length"
WITHIN_S = 20.0
RUNNING = ("queued", "processing")
PROBES: dict[int, Check] = {}
SLOW: set[int] = set()
"""Those that take a minute or more: `make clients` asks them, `make test` does not."""
LAST: set[int] = set()
"""Those after which a gateway spares its provider for a while."""


class Broken(Exception):
    """The statement does not hold; says what came instead."""


class NotMeasured(Exception):
    """It cannot be asked of this gateway; says why."""


def shows(number: int, *, slow: bool = False, last: bool = False) -> Callable[[C], C]:
    """The decorated function asks a gateway whether the statement holds."""

    def register(check: C) -> C:
        PROBES[number] = check
        if slow:
            SLOW.add(number)
        if last:
            LAST.add(number)
        return check

    return register


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def expect_status(answer: httpx.Response, *wanted: int) -> httpx.Response:
    expect(answer.status_code in wanted, f"answered {answer.status_code}")
    return answer


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object; each of its four fields must be there."""
    kind = answer.headers.get("content-type", "none")
    expect(kind.startswith("application/json"), f"the error is {kind}")
    error = answer.json().get("error")
    expect(isinstance(error, dict), f"{answer.status_code} without an error object")
    lacks = {"message", "type", "param", "code"} - error.keys()
    expect(not lacks, f"the error of a {answer.status_code} lacks {', '.join(sorted(lacks))}")
    return dict(error)


@dataclass
class Gate:
    """`beating` starts to keep answers alive after moments; where there is one address only, it
    is that one. `issue` makes keys with limits, None where there is one key for all."""

    name: str
    url: str
    beating: str
    sandbox: Sandbox
    key: str
    admin_key: str
    wire: httpx.Client
    issue: Callable[[str, Limits | None], str] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> None:
        """Once nothing runs any more, the provider is as if nothing had happened."""
        deadline = time.monotonic() + WITHIN_S
        while self._runs() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.sandbox.reset()
        self.sandbox.set(picture_style="plain", latency_s=0.05)

    def _runs(self) -> bool:
        """Where there are no tasks nobody knows; what is late there is seen as late POSTs."""
        listed = self.get("/v1/tasks")
        tasks = listed.json()["data"] if listed.status_code == 200 else []
        return any(task["status"] in RUNNING for task in tasks)

    def limited(self, limits: Limits) -> "Gate":
        """The same as a caller with limits. Raises NotMeasured where no keys can be made."""
        return replace(self, key=self.other_key(limits))

    def other_key(self, limits: Limits | None = None) -> str:
        if self.issue is None:
            raise NotMeasured("a key of its own needs a database there")
        return self.issue(f"caller-{next(self._numbers)}", limits)

    def body(self, **fields: Any) -> dict[str, Any]:
        return {"model": MODEL, "prompt": f"a koi, number {next(self._numbers)}", **fields}

    def ask(self, body: Any = None, path: str = PATH, **options: Any) -> httpx.Response:
        """POST a body (a dictionary as JSON, bytes as they are); `headers` None drops the key."""
        given = {"authorization": f"Bearer {self.key}"}
        headers = {**given, **(options.pop("headers", None) or {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        content = {"content": body} if not isinstance(body, dict) else {"json": body}
        url = options.pop("url", self.url) + path
        return self.wire.post(url, headers=headers, **content, **options)

    def get(self, path: str, key: str = "", **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
        return self.wire.get(self.url + path, headers=headers, **options)

    def made(self, **fields: Any) -> dict[str, Any]:
        """The JSON of a generation that must succeed."""
        answer: dict[str, Any] = expect_status(self.ask(self.body(**fields)), 200).json()
        return answer

    def task(self, **fields: Any) -> dict[str, Any]:
        """A task that must begin."""
        task = self.made(**{"async": True, **fields})
        expect(task.get("id"), "no id comes back, so that the picture is lost")
        return task

    @contextmanager
    def sdk(self, url: str = "", **options: Any) -> Iterator[openai.OpenAI]:
        given = {"api_key": self.key, "base_url": f"{url or self.url}/v1", "timeout": WITHIN_S}
        with openai.OpenAI(**{**given, **options}) as client:
            yield client


def words_of(error: Exception) -> str:
    """One line for a table, the same in every run."""
    text = str(error) if isinstance(error, Broken | NotMeasured) else f"{named(error)}: {error}"
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+", "…", " ".join(text.split()))
    return text.replace("|", "/")[:120]


def named(error: Exception) -> str:
    return type(error).__name__


SETTINGS: dict[str, Any] = {"admin_key": ADMIN_KEY, "sync_wait_s": 15, "collect_wait_s": 2}


@contextmanager
def koi_gate(sandbox: Sandbox, store_url: str, folder: Path, **settings: Any) -> Iterator[Gate]:
    """Koi as shipped, but for an administrator's key and shorter waits; beside it one that keeps
    answers alive from the first moments."""
    given = {**SETTINGS, **settings}
    with (
        gateway(sandbox, store_url, folder, **given) as koi,
        gateway(sandbox, store_url, folder, **given, heartbeat_after_s=0.3) as beating,
        httpx.Client(timeout=WITHIN_S) as wire,
    ):
        urls = koi.url, beating.url
        yield Gate("Koi", *urls, sandbox, koi.key(), ADMIN_KEY, wire, _issuer(koi))


def _issuer(koi: Koi) -> Callable[[str, Limits | None], str]:
    return lambda user, limits: koi.key(user, **({"limits": limits} if limits else {}))


@contextmanager
def litellm_gate(sandbox: Sandbox, folder: Path) -> Iterator[Gate]:
    with (
        litellm_proxy(sandbox.url, sandbox.key, folder) as url,
        httpx.Client(timeout=WITHIN_S) as wire,
    ):
        yield Gate("LiteLLM", url, url, sandbox, MASTER_KEY, MASTER_KEY, wire)
