"""The API: routes, keys, and a record of all requests."""

import re

from app.sandbox.cdn import serve_picture
from app.sandbox.contract import Problem, Refused
from app.sandbox.control import control
from app.sandbox.exchange import BodyTooLarge, Exchange, Receive, Scope, Send
from app.sandbox.fees import credit_grants
from app.sandbox.generations import generate
from app.sandbox.order import MAX_BODY_BYTES, MODELS, TOO_LARGE
from app.sandbox.polls import poll
from app.sandbox.provider import Provider, Recorded
from app.sandbox.references import MAX_LONG_BODY_BYTES

_TASK = re.compile(r"/(?:tasks|images/generations|images)/([^/]+)")


class Api:
    """The ASGI application of the API port."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; errors have the shape of the profile."""
        exchange = Exchange(scope, receive, send)
        if exchange.path.startswith("/__sim/"):
            await control(exchange, self._provider)
            return
        try:
            await self._route(exchange)
        except Refused as refusal:
            status, body = self._provider.profile.error(refusal.problem)
            await exchange.json(status, body, refusal.problem.headers)

    async def _route(self, exchange: Exchange) -> None:
        provider = self._provider
        path = exchange.path.removeprefix("/v1").rstrip("/")
        body = await self._record(exchange, path)
        if exchange.path.startswith("/cdn/"):
            await serve_picture(exchange, provider)
            return
        key = _key(exchange)
        if path == "/images/generations" and exchange.method == "POST":
            await generate(exchange, provider, key, body)
            return
        match = _TASK.fullmatch(path)
        if match is not None and exchange.method == "GET":
            provider.polls += 1
            await poll(exchange, provider, key, match[1])
            return
        provider.identify(key, buying=False)
        if path == "/models" and exchange.method == "GET":
            await _models(exchange)
            return
        if path == "/dashboard/billing/credit_grants" and provider.switches.billing_route:
            await exchange.json(200, credit_grants(provider.bill()))
            return
        message = f"Invalid URL ({exchange.method} {exchange.path})"
        raise Refused(Problem(404, "not_found", message))

    async def _record(self, exchange: Exchange, path: str) -> bytes:
        if path == "/images/generations" and exchange.method == "POST":
            self._provider.posts += 1
        body, problem = b"", None
        try:
            body = await exchange.read(MAX_LONG_BODY_BYTES)
        except BodyTooLarge:
            problem = TOO_LARGE
        kept = body[:MAX_BODY_BYTES]
        self._provider.requests.append(
            Recorded("api", exchange.method, exchange.path, exchange.query, exchange.headers, kept)
        )
        if problem is not None:
            exchange.reply_headers.append(("connection", "close"))
            raise Refused(problem)
        return body


def _key(exchange: Exchange) -> str:
    scheme, _, token = (exchange.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return exchange.header("x-api-key") or ""


async def _models(exchange: Exchange) -> None:
    rows = [
        {"id": name, "object": "model", "created": 1_717_000_000, "owned_by": "sandbox"}
        for name in MODELS
    ]
    await exchange.json(200, {"object": "list", "data": rows})
