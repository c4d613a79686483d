"""A process of its own that calls a provider, so that it can be stopped as a whole.

Arguments: base URL, how many calls, deadline in seconds. Prints what became of them, as JSON.
"""

import asyncio
import json
import sys

from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import open_transport
from app.domain.errors import UpstreamError
from app.domain.images import GenerationRequest
from app.domain.upstream import PollInconclusive, TaskImages, UpstreamAnswer


async def call(provider: DieyuyunProvider, number: int) -> str:
    request = GenerationRequest("grok-imagine", f"koi {number}", 1, "1024x1024", "standard")
    try:
        answer: UpstreamAnswer = (
            await provider.poll(f"task_{number}")
            if number % 2
            else await provider.dispatch(request, asynchronous=False)
        )
    except UpstreamError as error:
        return error.reason
    except PollInconclusive as trouble:
        return f"troubled: {trouble}"
    return "finished" if isinstance(answer, TaskImages) else "running"


async def main(url: str, calls: int, within_s: float) -> list[str]:
    provider = DieyuyunProvider(
        url, "sk-1", open_transport(), timeout_s=within_s, poll_timeout_s=within_s
    )
    try:
        return await asyncio.gather(*(call(provider, number) for number in range(calls)))
    finally:
        await provider.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
