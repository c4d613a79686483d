"""Faults of the CDN that serves the results."""

import asyncio
import gzip

from app.sandbox.faults.row import Bills, Fault, Fetch, LinkAct

_PAGE = b"<html><body><h1>not a picture</h1></body></html>"
_MEGABYTE = 1_000_000


async def _serve(fetch: Fetch) -> None:
    await fetch.exchange.reply(200, fetch.content, fetch.media_type)


async def _slow(fetch: Fetch) -> None:
    if not await fetch.exchange.gone(float(fetch.arg or 5)):
        await _serve(fetch)


async def _trickle(fetch: Fetch) -> None:
    await fetch.exchange.start(200, fetch.media_type, len(fetch.content))
    for at in range(0, len(fetch.content), 16):
        if not await fetch.exchange.chunk(fetch.content[at : at + 16]):
            return
        await asyncio.sleep(float(fetch.arg or 0.4))
    await fetch.exchange.end()


async def _cut(fetch: Fetch) -> None:
    await fetch.exchange.start(200, fetch.media_type, len(fetch.content))
    await fetch.exchange.chunk(fetch.content[: len(fetch.content) // 2])
    await asyncio.sleep(0.01)
    await fetch.exchange.reset()


async def _wrong_type(fetch: Fetch) -> None:
    await fetch.exchange.reply(200, fetch.content, fetch.arg or "application/octet-stream")


async def _redirect(fetch: Fetch) -> None:
    target = fetch.arg or "http://169.254.169.254/latest/meta-data/"
    await fetch.exchange.reply(302, b"", headers=(("location", target),))


async def _empty(fetch: Fetch) -> None:
    await fetch.exchange.reply(200, b"", fetch.media_type)


async def _html(fetch: Fetch) -> None:
    await fetch.exchange.reply(200, _PAGE, "text/html")


async def _disguised(fetch: Fetch) -> None:
    await fetch.exchange.reply(200, _PAGE, "image/jpeg")


async def _huge(fetch: Fetch) -> None:
    await fetch.exchange.start(200, fetch.media_type, None)
    there = await fetch.exchange.chunk(fetch.content)
    for _ in range(int(fetch.arg or 100)):
        if not there:
            return
        there = await fetch.exchange.chunk(bytes(_MEGABYTE))
    await fetch.exchange.end()


async def _not_found(fetch: Fetch) -> None:
    xml = b"<Error><Code>NoSuchKey</Code></Error>"
    await fetch.exchange.reply(404, xml, "application/xml")


async def _one_gone(fetch: Fetch) -> None:
    await (_not_found(fetch) if fetch.index == int(fetch.arg or 0) else _serve(fetch))


def _at_first(fetch: Fetch) -> bool:
    """Whether this download is among the first two (or the argument's number)."""
    return fetch.number <= int(fetch.arg or 2)


async def _away(fetch: Fetch) -> None:
    await (_not_found(fetch) if _at_first(fetch) else _serve(fetch))


async def _shorter(fetch: Fetch) -> None:
    """Half the image without a length, then a normal close."""
    if not _at_first(fetch):
        await _serve(fetch)
        return
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {fetch.media_type}\r\nconnection: close\r\n\r\n"
    await fetch.exchange.raw(head.encode() + fetch.content[: len(fetch.content) // 2])


async def _zeros(fetch: Fetch) -> None:
    whole = fetch.content
    cut = whole[: len(whole) // 4].ljust(len(whole), b"\0") if _at_first(fetch) else whole
    await fetch.exchange.reply(200, cut, fetch.media_type)


async def _gzip(fetch: Fetch) -> None:
    coded = (("content-encoding", "gzip"),)
    await fetch.exchange.reply(200, gzip.compress(fetch.content), fetch.media_type, coded)


async def _flaky(fetch: Fetch) -> None:
    if fetch.number > int(fetch.arg or 2):
        await _serve(fetch)
    else:
        await fetch.exchange.reply(503, b"<Error><Code>SlowDown</Code></Error>", "application/xml")


async def _hang(fetch: Fetch) -> None:
    if not await fetch.exchange.gone(float(fetch.arg or 700)):
        await fetch.exchange.close()


def _row(name: str, says: str, act: LinkAct) -> Fault:
    return Fault(name, Bills.ALL, says, link=act)


ROWS: tuple[Fault, ...] = (
    _row("cdn-slow", "first byte after 5 s (argument: seconds)", _slow),
    _row("cdn-trickle", "16 bytes each 0.4 s (argument: seconds)", _trickle),
    _row("cdn-cut", "RST after half the picture", _cut),
    _row("cdn-hang", "silence for 700 s (argument: seconds)", _hang),
    _row("cdn-wrong-type", "a picture called octet-stream (argument: type)", _wrong_type),
    _row("cdn-redirect", "302 into the private network (argument: url)", _redirect),
    _row("cdn-empty", "200 and no byte", _empty),
    _row("cdn-html", "a page instead of a picture", _html),
    _row("cdn-disguised", "a page called image/jpeg", _disguised),
    _row("cdn-huge", "100 MB after the picture (argument: megabytes)", _huge),
    _row("cdn-404", "the picture is gone", _not_found),
    _row("cdn-one-gone", "the first picture (argument: which) is gone", _one_gone),
    _row("cdn-away", "404 for 2 downloads (argument), then the picture", _away),
    _row("cdn-shorter", "half of it and FIN for 2 downloads (argument), then all of it", _shorter),
    _row("cdn-zeros", "zeros for 2 downloads (argument) after a quarter, then the picture", _zeros),
    _row("cdn-gzip", "the picture in gzip, unasked", _gzip),
    _row("cdn-flaky", "503 for 2 downloads (argument), then the picture", _flaky),
)
