"""The official Python SDK, as released: its defaults, and a timeout where the call names one."""

import asyncio
import functools

import line
from openai import AsyncOpenAI


@functools.lru_cache
def client_for(base_url, key, timeout_s):
    settings = {} if timeout_s is None else {"timeout": timeout_s}
    return AsyncOpenAI(base_url=base_url, api_key=key, **settings)


def client_of(call):
    return client_for(call["base_url"], call["key"], call.get("timeout_s"))


async def make(call):
    answer = await client_of(call).images.generate(
        model="grok-imagine",
        prompt=call["prompt"],
        n=call.get("n", 1),
        extra_headers=call.get("headers"),
    )
    return line.told(answer.data)


async def warm(call):
    await asyncio.gather(*(client_of(call).models.list() for _ in range(2)))


line.serve(make, warm)
