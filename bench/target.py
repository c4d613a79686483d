"""A target of the load generator."""

import json
from dataclasses import dataclass

from bench.generator import Request
from bench.load import MARK

CROWD = 64


@dataclass(frozen=True, slots=True)
class Target:
    """A request to send again and again. `pid` is the gateway's process, None for the stub."""

    name: str
    request: Request
    pid: int | None = None
    connections: int = CROWD
    alone: bool = True
    """Whether it is also measured with one client."""


def generation(url: str, key: str, **fields: object) -> Request:
    """A request for one picture."""
    body = json.dumps({"model": "picture-5kb", "prompt": MARK, "n": 1} | fields)
    return Request(url, "POST", {"Authorization": f"Bearer {key}"}, body, expected='"data"')
