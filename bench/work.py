"""The kinds of requests that a gateway is measured with, each with the answer it must give."""

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.children import DIRECT, ChildFailed
from bench.generator import LoadGenerator, Request
from bench.koi import Koi
from bench.load import MARK
from bench.peers import PATH
from bench.target import generation

SAME = "the same koi for everyone"


class Caller:
    """A user of a gateway with its keys, made when they are needed."""

    def __init__(self, koi: Koi) -> None:
        self._koi = koi
        self._keys: dict[str, str] = {}
        self._pictures: dict[str, dict[str, Any]] = {}
        koi.team()

    def key(self, kind: str = "plain") -> str:
        """`plain`, `cached`, or the name of a limit that is one."""
        if kind not in self._keys:
            user = "cached" if kind == "cached" else "plain"
            if user not in self._keys:
                self._koi.user(user, "private" if user == "cached" else "off")
                self._keys[user] = self._koi.key(user)
            if kind != user:
                self._keys[kind] = self._koi.key(user, **{kind: 1})
        return self._keys[kind]

    def get(self, path: str, key: str = "plain") -> Request:
        return Request(self._koi.url + path, "GET", _bearer(self.key(key)))

    def generate(self, model: str, key: str = "plain", **fields: object) -> Request:
        return generation(self._koi.url + PATH, self.key(key), model=model, **fields)

    def picture(self, model: str) -> Request:
        """The link of a picture that exists."""
        return Request(self._made(model)["data"][0]["url"], expected="image/png")

    def ended_task(self) -> Request:
        name = self._made("picture-5kb")["task_id"]
        return replace(self.get(f"/v1/tasks/{name}"), expected='"data"')

    def unknown_task(self) -> Request:
        """The task's name is of the right form."""
        name = self._made("picture-5kb")["task_id"]
        return self.get(f"/v1/tasks/{name[:-4]}0000")

    def refused(self, limit: str) -> Request:
        """A request beyond a limit of one, which is used up here."""
        request = self.generate("picture-5kb", limit)
        _send(replace(request, body=request.body.replace(MARK, "the first")))
        return replace(request, status=429, expected='"error"')

    def _made(self, model: str) -> dict[str, Any]:
        if model not in self._pictures:
            self._pictures[model] = _send(self.generate(model, prompt=SAME))
        return self._pictures[model]


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _send(request: Request) -> dict[str, Any]:
    """Send it once; the answer with the task's id."""
    call = urllib.request.Request(
        request.url,
        request.body.encode() or None,
        {**request.headers, "Content-Type": "application/json"},
        method=request.method,
    )
    with DIRECT.open(call, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
        return answer | {"task_id": response.headers.get("x-koi-task-id")}


def _wrong(request: Request, status: int, **changes: Any) -> Request:
    return replace(request, status=status, expected='"error"', **changes)


@dataclass(frozen=True, slots=True)
class Work:
    """One row: how to make its request, and how it is sent."""

    name: str
    says: str
    request: Callable[[Caller], Request]
    connections: int = 64


ROWS = (
    Work("generation", "sync, cache off, 5 KB", lambda c: c.generate("picture-5kb")),
    Work("generation-60kb", "sync, cache off", lambda c: c.generate("picture-60kb")),
    Work("generation-2mb", "sync, cache off", lambda c: c.generate("picture-2048kb"), 8),
    Work("async-3-polls", "provider's task, 60 KB", lambda c: c.generate("task-60kb")),
    Work("miss", "cache on, prompts differ", lambda c: c.generate("picture-5kb", "cached")),
    Work("hit", "the same again", lambda c: c.generate("picture-5kb", "cached", prompt=SAME)),
    Work("poll", "an ended task", lambda c: c.ended_task()),
    Work("429-rate", "requests_per_minute", lambda c: c.refused("requests_per_minute")),
    Work("429-quota", "images_per_day", lambda c: c.refused("images_per_day")),
    Work(
        "401",
        "an unknown key",
        lambda c: _wrong(c.generate("picture-5kb"), 401, headers=_bearer("sk-koi-nobody")),
    ),
    Work("404", "an unknown path", lambda c: _wrong(c.get("/v1/nothing"), 404)),
    Work("404-task", "an unknown task", lambda c: _wrong(c.unknown_task(), 404)),
    Work(
        "400",
        "a body without a prompt",
        lambda c: _wrong(c.generate("picture-5kb"), 400, body='{"model":"picture-5kb"}'),
    ),
    Work("picture-60kb", "GET of its link", lambda c: c.picture("picture-60kb")),
    Work("picture-2mb", "GET of its link", lambda c: c.picture("picture-2048kb"), 8),
    Work(
        "b64-2mb",
        "a hit as base64",
        lambda c: c.generate("picture-2048kb", "cached", prompt=SAME, response_format="b64_json"),
        8,
    ),
    Work("livez", "/livez", lambda c: c.get("/livez")),
    Work("models", "/v1/models", lambda c: c.get("/v1/models")),
    Work("usage", "/v1/usage", lambda c: c.get("/v1/usage")),
)


def prepared(work: Work, caller: Caller, generator: LoadGenerator, warm_up_s: float) -> Request:
    """The request, after a warm-up in which the gateway answered it as it must."""
    request = work.request(caller)
    seen = generator.do(request, connections=work.connections, duration_s=warm_up_s)
    if not seen["requests"] or seen["errors"]:
        raise ChildFailed(f"{work.name}: {seen['requests']} right answers, {seen['error_kinds']}")
    return request
