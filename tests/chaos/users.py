"""People with the official SDK as it comes: default retries, one picture after the other."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import openai
from openai import AsyncOpenAI

PAUSE_S = 0.2


@dataclass
class Users:
    """`failures`: what those calls were told that failed after the SDK's own retries."""

    base_url: str
    secret: str
    count: int
    transport: httpx.AsyncBaseTransport
    prompts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until told to stop; then finish what was begun."""
        async with (
            httpx.AsyncClient(transport=self.transport, timeout=60) as http,
            asyncio.TaskGroup() as group,
        ):
            client = AsyncOpenAI(base_url=self.base_url, api_key=self.secret, http_client=http)
            for number in range(self.count):
                group.create_task(self._user(client, number, stop))

    async def _user(self, client: AsyncOpenAI, number: int, stop: asyncio.Event) -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            prompt = f"koi {number} {turn}"
            self.prompts.append(prompt)
            try:
                answer = await client.images.generate(model="grok-imagine", prompt=prompt)
                if not (answer.data and answer.data[0].url):
                    self.failures.append(f"{prompt}: no picture")
            except openai.APIError as error:
                self.failures.append(f"{prompt}: {error!r} {error.body}")
            await asyncio.sleep(random.uniform(0, PAUSE_S))


class RoundRobin(httpx.AsyncBaseTransport):
    """The least a balancer does: one gateway after the other, the next one when refused."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._tries = len(ports)
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(self._tries):
            request.url = request.url.copy_with(host="127.0.0.1", port=next(self._ports))
            try:
                return await self._inner.handle_async_request(request)
            except httpx.ConnectError as error:
                refused = error
        raise refused

    async def aclose(self) -> None:
        await self._inner.aclose()
