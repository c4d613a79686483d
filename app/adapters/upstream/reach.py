"""Can the provider be reached, and does it know our key? Asking for its models costs nothing."""

from dataclasses import dataclass
from enum import Enum

import httpx

from app.adapters.upstream.transport import AiohttpTransport, TlsFailed

TIMEOUT_S = 10


class Trouble(Enum):
    UNTRUSTED = "has no valid TLS certificate for that name"
    SILENT = "did not answer in time"
    AWAY = "is away"


@dataclass(frozen=True, slots=True)
class Reached:
    """The HTTP status of the answer, or the trouble on the way to it."""

    status: int | None = None
    trouble: Trouble | None = None


async def reach(base_url: str, api_key: str) -> Reached:
    headers = {"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"}
    try:
        async with httpx.AsyncClient(transport=AiohttpTransport(1), timeout=TIMEOUT_S) as client:
            response = await client.get(f"{base_url.rstrip('/')}/models", headers=headers)
    except TlsFailed:
        return Reached(trouble=Trouble.UNTRUSTED)
    except httpx.TimeoutException:
        return Reached(trouble=Trouble.SILENT)
    except httpx.HTTPError:
        return Reached(trouble=Trouble.AWAY)
    return Reached(status=response.status_code)
