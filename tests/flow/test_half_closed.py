"""Clients that close their own side once they have asked, and read on: each gets its answer."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi


def last_head(koi: Koi, key: str, body: dict[str, Any]) -> str:
    """The status line of the answer, without interim ones."""
    sent = json.dumps(body)
    head = (
        f"POST {GENERATE} HTTP/1.1\r\nhost: koi\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    place = httpx.URL(koi.url)
    with socket.create_connection((place.host, place.port or 80), 30) as line:
        line.sendall((head + sent).encode())
        line.shutdown(socket.SHUT_WR)
        with line.makefile("rb") as stream:
            lines = stream.read().split(b"\r\n")
    return [text.decode() for text in lines if text.startswith(b"HTTP/1.1 ")][-1]


@pytest.mark.parametrize("options", [{}, {"async": True}, {"stream": True}], ids=str)
@pytest.mark.parametrize("policy", ["private", "off"])
def test_a_repeat_beside_or_after_its_like_is_answered(
    start: Start, policy: str, options: dict[str, Any]
) -> None:
    koi = start(cache_policy=policy)
    koi.sandbox.set(latency_s=0.5)
    key, body = koi.key(), {**KOI, **options}

    with ThreadPoolExecutor(4) as pool:
        beside = []
        for _ in range(3):
            beside.append(pool.submit(last_head, koi, key, body))
            time.sleep(0.15)
        heads = [one.result() for one in beside]
    heads += [last_head(koi, key, body) for _ in range(3)]

    assert set(heads) == {"HTTP/1.1 200 OK"}
