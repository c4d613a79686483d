"""Reference images on their way to the provider: whole, by slices, and what a broken call is."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.reference_body import SLICE_BYTES, SectionedBody
from app.domain.errors import UpstreamError
from app.domain.formats.source import MemorySource
from app.domain.references import Reference, refer_to
from tests.adapters.test_upstream_tls import certificate, serving, trusting
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    OK_BODY,
    P1,
    P3,
    head,
    listening,
    provider_at,
    reply,
    scripted,
)

BIG = os.urandom(8 << 20)
ANSWER = head(200, "Content-Type: application/json", f"Content-Length: {len(OK_BODY)}") + OK_BODY
NO = head(400, "Content-Length: 2") + b"{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class CountedSource(MemorySource):
    """Remembers how far it was read."""

    reached = 0

    def read(self, at: int, most: int) -> bytes:
        CountedSource.reached = max(CountedSource.reached, at + most)
        return super().read(at, most)


def with_picture(body: bytes) -> Any:
    CountedSource.reached = 0
    content = CountedSource(body)
    return replace(KOI, references=(Reference("d", media_type="image/png", content=content),))


@asynccontextmanager
async def served_by(serve: Serve, **settings: Any) -> AsyncIterator[DieyuyunProvider]:
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await serve(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 16)
    port = server.sockets[0].getsockname()[1]
    try:
        async with provider_at(f"http://127.0.0.1:{port}/v1", **settings) as provider:
            yield provider
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [1, 2, 3, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 700_001])
async def test_a_picture_of_any_size_arrives_whole_and_the_connection_is_kept(size: int) -> None:
    body = os.urandom(size)
    async with scripted(reply(200, DONE)) as (provider, upstream):
        await provider.dispatch(with_picture(body), asynchronous=False)
        await asyncio.sleep(0.15)
        await provider.dispatch(KOI, asynchronous=False)

    sent, plain = upstream.asked
    assert sent.json["image"] == f"data:image/png;base64,{base64.b64encode(body).decode()}"
    assert "image" not in plain.json
    assert [asked.connection for asked in upstream.asked] == [1, 1]


async def test_a_picture_arrives_whole_through_tls(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    async with (
        listening(reply(200, DONE), tls=serving(path)) as upstream,
        provider_at(f"https://127.0.0.1:{upstream.port}/v1", tls=trusting(path)) as provider,
    ):
        await provider.dispatch(with_picture(BIG), asynchronous=False)

    digits = upstream.asked[0].json["image"].partition(",")[2]
    assert base64.b64decode(digits) == BIG


async def test_several_pictures_are_a_list_in_their_order_under_the_models_own_field() -> None:
    first = with_picture(b"koi").references[0]
    both = (first, refer_to('https://a.example/"b"'), first)
    asked = replace(KOI, references=both, reference_field="images")
    async with scripted(reply(200, DONE)) as (provider, upstream):
        await provider.dispatch(asked, asynchronous=True)
        await provider.dispatch(replace(asked, references=both[1:2]), asynchronous=True)

    inline = "data:image/png;base64,a29p"
    assert upstream.asked[0].json["images"] == [inline, 'https://a.example/"b"', inline]
    assert upstream.asked[1].json["images"] == 'https://a.example/"b"'


async def test_a_provider_that_refuses_early_gets_no_more_of_it_and_proves_a_refusal() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(NO)
        await asyncio.sleep(30)

    async with served_by(refuse) as provider:
        with pytest.raises(UpstreamError) as failed:
            await provider.dispatch(with_picture(BIG), asynchronous=False)

    assert failed.value.proof is P1
    assert CountedSource.reached < len(BIG)


@pytest.mark.parametrize("read", [0, 100_000])
async def test_a_connection_that_breaks_in_the_body_proves_nothing(read: int) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read:
            await reader.readexactly(read)
        writer.transport.abort()

    async with served_by(break_off) as provider:
        with pytest.raises(UpstreamError) as failed:
            await provider.dispatch(with_picture(BIG), asynchronous=False)

    assert failed.value.proof is P3


async def test_a_provider_that_reads_nothing_costs_a_deadline_and_little_memory() -> None:
    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with served_by(hang, timeout_s=1) as provider:
        with pytest.raises(UpstreamError) as failed:
            await provider.dispatch(with_picture(BIG), asynchronous=False)

    assert (failed.value.reason, failed.value.proof) == ("upstream_timeout", P3)
    assert CountedSource.reached < len(BIG) // 2


async def test_a_slow_provider_gets_all_of_it() -> None:
    received = bytearray()

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not received.endswith(b'"}'):
            received.extend(await reader.read(200_000))
            await asyncio.sleep(0.002)
        writer.write(ANSWER)

    async with served_by(sip) as provider:
        await provider.dispatch(with_picture(BIG), asynchronous=False)

    assert base64.b64decode(json.loads(received)["image"].partition(",")[2]) == BIG


async def test_a_file_that_became_shorter_is_never_sent_as_a_whole() -> None:
    class Shrunk(MemorySource):
        @property
        def size(self) -> int:
            return 2 * SLICE_BYTES

    body = SectionedBody([b"{", Shrunk(bytes(SLICE_BYTES + 9)), b"}"])
    with pytest.raises(OSError, match="shorter"):
        _ = [piece async for piece in body.pieces()]
