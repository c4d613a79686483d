"""The doctor's look at the provider: can it be reached, and does it know our key? Costs nothing."""

import asyncio
import socket
from urllib.parse import urlsplit

from app.adapters.upstream.reach import Trouble, reach
from app.cli.finding import Finding, fail, ok, warn
from app.settings import Settings

CHECK = "provider"


async def check_provider(settings: Settings) -> list[Finding]:
    """Ask for the list of models, which providers of this kind answer without charging."""
    key = settings.upstream_key
    if key is None:
        mend = "Set KOI_UPSTREAM_API_KEY or KOI_UPSTREAM_API_KEY_FILE to the provider's key."
        return [fail(CHECK, "no upstream key is set", mend)]
    host = urlsplit(settings.upstream_base_url).hostname or ""
    if not await _resolves(host):
        mend = "Check the name in KOI_UPSTREAM_BASE_URL and this machine's DNS."
        return [fail(CHECK, f"the name {host} cannot be resolved", mend)]
    reached = await reach(settings.upstream_base_url, key)
    if reached.trouble is not None:
        return [_unreachable(host, reached.trouble)]
    return [_answered(host, reached.status or 0)]


async def _resolves(host: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except socket.gaierror:
        return False
    return True


def _unreachable(host: str, trouble: Trouble) -> Finding:
    mend = "Check KOI_UPSTREAM_BASE_URL, the firewall and the way out of this network."
    if trouble is Trouble.UNTRUSTED:
        mend = "Check KOI_UPSTREAM_BASE_URL, this machine's clock and its certificates."
    return fail(CHECK, f"{host} {trouble.value}", mend)


def _answered(host: str, status: int) -> Finding:
    if status in (401, 403):
        mend = "Check KOI_UPSTREAM_API_KEY, and that the key may list models."
        return fail(CHECK, f"{host} refuses the upstream key ({status})", mend)
    if status == 200:
        return ok(CHECK, f"{host} answers and knows the upstream key")
    if status >= 500 or status == 429:
        return warn(CHECK, f"{host} answers {status} now", "Try again shortly.")
    mend = "Nothing, if generations work: the key could not be checked without paying."
    return warn(CHECK, f"{host} answers {status} for its list of models", mend)
