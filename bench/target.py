"""A target of the load generator."""

import json
from dataclasses import dataclass

from bench.generator import Request
from bench.load import MARK


@dataclass(frozen=True, slots=True)
class Target:
    """A URL with a key. `pid` is the gateway's process, None for the stub."""

    name: str
    url: str
    key: str = "none"
    pid: int | None = None
    same: bool = False
    """Every request is the same, so that a cache can answer it."""
    model: str = "grok-imagine"

    def request(self) -> Request:
        prompt = "the same koi for everyone" if self.same else MARK
        return generation(self.url, self.key, model=self.model, prompt=prompt)


def generation(url: str, key: str, **fields: object) -> Request:
    """A request for one picture."""
    body = json.dumps({"model": "grok-imagine", "prompt": MARK, "n": 1} | fields)
    return Request(url, "POST", {"Authorization": f"Bearer {key}"}, body, expected='"data"')
