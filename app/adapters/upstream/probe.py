"""Checks with one GET, which costs nothing, that the provider answers and knows our key.

`koi doctor` does it, and each start once. It takes no permit of the upstream limiter, and nothing
waits for it. It follows no redirect and repeats nothing, so it cannot become a request that costs.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, StrEnum
from urllib.parse import urlsplit

from app.adapters.http.client import HttpResponse
from app.adapters.http.errors import HttpError, HttpTimeout, TlsHandshakeError
from app.adapters.http.messages import HttpRequest, SentHeaders
from app.adapters.http.send_state import SendState
from app.adapters.http.urls import parse_url
from app.adapters.upstream.transport import open_transport

PROBE_TIMEOUT_S = 10.0
MAX_PROBE_BYTES = 256 * 1024
"""How much of a reply is read: enough to see whether it is JSON."""
JSON_PREFIXES = (b"{", b"[")


class ConnectFailure(Enum):
    UNRESOLVED = "cannot be resolved"
    UNTRUSTED = "has no valid TLS certificate for that name"
    SILENT = "did not answer in time"
    AWAY = "cannot be reached"


class ProbeVerdict(StrEnum):
    """What generations can be expected to do."""

    GOOD = "good"
    INCONCLUSIVE = "open"
    """An API answered, but does not list models: only a paid call could tell more."""
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The finding in words; `fix` says what to do, empty when there is nothing to do."""

    verdict: ProbeVerdict
    host: str
    text: str
    fix: str = ""

    @property
    def needs_attention(self) -> bool:
        return self.verdict in (ProbeVerdict.DOUBTFUL, ProbeVerdict.BAD)


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    status: int
    json: bool


async def probe_provider(
    base_url: str, api_key: str, timeout_s: float = PROBE_TIMEOUT_S
) -> ProbeResult:
    """Ask for the list of models, within `timeout_s` in total. Network errors are findings."""
    host = urlsplit(base_url).hostname or ""
    try:
        async with asyncio.timeout(timeout_s):
            if not await _resolves(host):
                return _judge_failure(host, ConnectFailure.UNRESOLVED)
            answered = await _list_models(base_url, api_key)
    except TlsHandshakeError:
        return _judge_failure(host, ConnectFailure.UNTRUSTED)
    except (HttpTimeout, TimeoutError):
        return _judge_failure(host, ConnectFailure.SILENT)
    except (HttpError, ValueError):
        return _judge_failure(host, ConnectFailure.AWAY)
    return _judge_response(host, answered)


async def _resolves(host: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


async def _list_models(base_url: str, api_key: str) -> ProbeResponse:
    headers = SentHeaders(
        ("Authorization", f"Bearer {api_key}"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
    )
    request = HttpRequest("GET", parse_url(f"{base_url.rstrip('/')}/models"), headers)
    transport = open_transport(1)
    try:
        async with await transport.send(request, SendState()) as response:
            return ProbeResponse(response.status, await _is_json(response))
    finally:
        await transport.close()


async def _is_json(response: HttpResponse) -> bool:
    """By the first character only: a list of models may be longer than what is read."""
    read = 0
    while piece := await response.read():
        if begun := piece.lstrip(b" \t\r\n\xef\xbb\xbf"):
            return begun.startswith(JSON_PREFIXES)
        read += len(piece)
        if read > MAX_PROBE_BYTES:
            break
    return False


def _judge_failure(host: str, trouble: ConnectFailure) -> ProbeResult:
    fix = "Check KOI_UPSTREAM_BASE_URL, the firewall and the way out of this network."
    if trouble is ConnectFailure.UNRESOLVED:
        fix = "Check the name in KOI_UPSTREAM_BASE_URL and this machine's DNS."
        return ProbeResult(ProbeVerdict.BAD, host, f"the name {host} {trouble.value}", fix)
    if trouble is ConnectFailure.UNTRUSTED:
        fix = "Check KOI_UPSTREAM_BASE_URL, this machine's clock and its certificates."
    return ProbeResult(ProbeVerdict.BAD, host, f"{host} {trouble.value}", fix)


def _judge_response(host: str, answered: ProbeResponse) -> ProbeResult:
    status = answered.status
    address = "Check KOI_UPSTREAM_BASE_URL: it must be the API's root, usually ending in /v1."
    if status in (401, 403):
        fix = "Check KOI_UPSTREAM_API_KEY, and that the key may list models."
        return ProbeResult(
            ProbeVerdict.BAD, host, f"{host} refuses the upstream key ({status})", fix
        )
    if status >= 500 or status == 429:
        return ProbeResult(
            ProbeVerdict.INCONCLUSIVE, host, f"{host} answers {status} now", "Try again shortly."
        )
    if 300 <= status < 400:
        text = f"{host} redirects to another address ({status}), to which Koi sends no key"
        return ProbeResult(ProbeVerdict.BAD, host, text, address)
    if not answered.json:
        verdict = ProbeVerdict.BAD if status == 200 else ProbeVerdict.DOUBTFUL
        text = f"{host} answers {status} without JSON for its list of models"
        return ProbeResult(verdict, host, text, address)
    if status == 200:
        return ProbeResult(ProbeVerdict.GOOD, host, f"{host} answers and knows the upstream key")
    fix = "Nothing, if generations work: the key could not be checked without paying."
    return ProbeResult(
        ProbeVerdict.INCONCLUSIVE, host, f"{host} answers {status} for its list of models", fix
    )
