"""The server of the results: signed links that expire, and its faults."""

import hmac
import re
from urllib.parse import parse_qs

from app.sandbox.exchange import Exchange, Receive, Scope, Send
from app.sandbox.faults.row import Fetch
from app.sandbox.provider import Provider, Recorded

_NAME = re.compile(r"/cdn/(([0-9a-f]{16})-(\d{1,3})\.(?:jpg|png))")


class Cdn:
    """The ASGI application of the CDN port."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one download."""
        exchange = Exchange(scope, receive, send)
        self._provider.requests.append(
            Recorded("cdn", exchange.method, exchange.path, exchange.query, exchange.headers, b"")
        )
        await serve_picture(exchange, self._provider)


async def serve_picture(exchange: Exchange, provider: Provider) -> None:
    """Sends the image of a link, or an error in XML as object stores do."""
    match = _NAME.fullmatch(exchange.path)
    generation = provider.files.get(match[2]) if match else None
    if match is None or generation is None or exchange.method not in {"GET", "HEAD"}:
        await _refuse(exchange, 404, "NoSuchKey")
        return
    if provider.switches.cdn_status is not None:
        await _refuse(exchange, provider.switches.cdn_status, "ServiceUnavailable")
        return
    if not _valid(exchange, provider, match[1]):
        await _refuse(exchange, 403, "AccessDenied")
        return
    generation.fetches += 1
    content = await provider.picture(generation, int(match[3]))
    media_type = f"image/{provider.switches.image_format}"
    use = generation.use
    if use is not None and use.fault.link is not None:
        fetch = Fetch(exchange, content, media_type, generation.fetches, use.arg, int(match[3]))
        await use.fault.link(fetch)
        return
    await exchange.reply(200, content, media_type)


def _valid(exchange: Exchange, provider: Provider, name: str) -> bool:
    query = parse_qs(exchange.query)
    expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
    if not expires.isdecimal() or int(expires) <= provider.now():
        return False
    right = provider.signature(name, int(expires), provider.link_epoch)
    return hmac.compare_digest(right, signature)


async def _refuse(exchange: Exchange, status: int, code: str) -> None:
    xml = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'
    await exchange.reply(status, xml.encode(), "application/xml")
