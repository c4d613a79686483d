"""Is the provider where the settings say, and does it know our key? One GET, which costs nothing.

Asked by `koi doctor` and once at each start; it takes no turn at the governor and nobody waits for
it. It follows no redirect and repeats nothing, so that it cannot become a request that is paid for.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, StrEnum
from urllib.parse import urlsplit

import httpx

from app.adapters.upstream.transport import AiohttpTransport, TlsFailed

TIMEOUT_S = 10.0
MOST_BYTES = 256 * 1024
"""What is read of an answer: enough to see whether it is JSON."""
JSON_BEGINS = (b"{", b"[")


class Trouble(Enum):
    UNRESOLVED = "cannot be resolved"
    UNTRUSTED = "has no valid TLS certificate for that name"
    SILENT = "did not answer in time"
    AWAY = "is away"


class Outlook(StrEnum):
    """What to expect of generations after this."""

    GOOD = "good"
    OPEN = "open"
    """An API answered, but not this question: nothing can be told without paying."""
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of the provider, in words; `mend` says what to do, empty where all is well."""

    outlook: Outlook
    host: str
    text: str
    mend: str = ""

    @property
    def worrying(self) -> bool:
        return self.outlook in (Outlook.DOUBTFUL, Outlook.BAD)


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    json: bool


async def look(base_url: str, api_key: str, timeout_s: float = TIMEOUT_S) -> Sight:
    """Ask for the list of models, within `timeout_s` all in all. Raises nothing it can expect."""
    host = urlsplit(base_url).hostname or ""
    try:
        async with asyncio.timeout(timeout_s):
            if not await _resolves(host):
                return _unreached(host, Trouble.UNRESOLVED)
            answered = await _ask(base_url, api_key, timeout_s)
    except TlsFailed:
        return _unreached(host, Trouble.UNTRUSTED)
    except (httpx.TimeoutException, TimeoutError):
        return _unreached(host, Trouble.SILENT)
    except (httpx.HTTPError, httpx.InvalidURL):
        return _unreached(host, Trouble.AWAY)
    return _understood(host, answered)


async def _resolves(host: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


async def _ask(base_url: str, api_key: str, timeout_s: float) -> Answered:
    headers = {
        "Authorization": f"Bearer {api_key}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    url = f"{base_url.rstrip('/')}/models"
    async with (
        httpx.AsyncClient(
            transport=AiohttpTransport(1), timeout=timeout_s, follow_redirects=False
        ) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        return Answered(response.status_code, await _is_json(response))


async def _is_json(response: httpx.Response) -> bool:
    """By its first letter: a list of models may be longer than what is read of it."""
    read = 0
    async for piece in response.aiter_raw():
        if begun := piece.lstrip(b" \t\r\n\xef\xbb\xbf"):
            return begun.startswith(JSON_BEGINS)
        read += len(piece)
        if read > MOST_BYTES:
            break
    return False


def _unreached(host: str, trouble: Trouble) -> Sight:
    mend = "Check KOI_UPSTREAM_BASE_URL, the firewall and the way out of this network."
    if trouble is Trouble.UNRESOLVED:
        mend = "Check the name in KOI_UPSTREAM_BASE_URL and this machine's DNS."
        return Sight(Outlook.BAD, host, f"the name {host} {trouble.value}", mend)
    if trouble is Trouble.UNTRUSTED:
        mend = "Check KOI_UPSTREAM_BASE_URL, this machine's clock and its certificates."
    return Sight(Outlook.BAD, host, f"{host} {trouble.value}", mend)


def _understood(host: str, answered: Answered) -> Sight:
    status = answered.status
    address = "Check KOI_UPSTREAM_BASE_URL: it must be the API's root, usually ending in /v1."
    if status in (401, 403):
        mend = "Check KOI_UPSTREAM_API_KEY, and that the key may list models."
        return Sight(Outlook.BAD, host, f"{host} refuses the upstream key ({status})", mend)
    if status >= 500 or status == 429:
        return Sight(Outlook.OPEN, host, f"{host} answers {status} now", "Try again shortly.")
    if 300 <= status < 400:
        text = f"{host} sends callers to another address ({status}), where Koi takes no key"
        return Sight(Outlook.BAD, host, text, address)
    if not answered.json:
        outlook = Outlook.BAD if status == 200 else Outlook.DOUBTFUL
        text = f"{host} answers {status} without JSON for its list of models"
        return Sight(outlook, host, text, address)
    if status == 200:
        return Sight(Outlook.GOOD, host, f"{host} answers and knows the upstream key")
    mend = "Nothing, if generations work: the key could not be checked without paying."
    return Sight(Outlook.OPEN, host, f"{host} answers {status} for its list of models", mend)
