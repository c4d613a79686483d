"""Whether the provider can be reached and accepts our key. It costs nothing.

`koi doctor` reports it, and each start logs it.
"""

import asyncio

import structlog

from app.adapters.upstream.probe import ProbeResult, ProbeVerdict, probe_provider
from app.domain.check_result import CheckResult, CheckStatus, fail, warn
from app.settings import Settings

log = structlog.get_logger("koi.serve")

CHECK = "provider"
CHECK_STATUSES = {
    ProbeVerdict.GOOD: CheckStatus.OK,
    ProbeVerdict.INCONCLUSIVE: CheckStatus.WARN,
    ProbeVerdict.DOUBTFUL: CheckStatus.WARN,
    ProbeVerdict.BAD: CheckStatus.FAIL,
}


async def check_provider(settings: Settings, *, served: bool = False) -> list[CheckResult]:
    """Ask for the list of models, which providers of this kind answer without charging. `served`:
    gateways run on this store, so that these settings may be those of a command only."""
    key = settings.upstream_key
    if key is None and served:
        fix = (
            "To check it from here, run this command with the gateways' KOI_UPSTREAM_API_KEY and "
            "KOI_UPSTREAM_BASE_URL."
        )
        return [warn(CHECK, "no upstream key is set here; the gateways that run have one", fix)]
    if key is None:
        fix = "Set KOI_UPSTREAM_API_KEY or KOI_UPSTREAM_API_KEY_FILE to the provider's key."
        return [fail(CHECK, "no upstream key is set", fix)]
    probed = await probe_provider(settings.upstream_base_url, key)
    return [CheckResult(CHECK, CHECK_STATUSES[probed.verdict], probed.text, probed.fix)]


def log_provider_check(settings: Settings) -> None:
    """Ask and log the result, within a few seconds."""
    key = settings.upstream_key
    if key is not None:
        _log_check(asyncio.run(probe_provider(settings.upstream_base_url, key)))


def _log_check(probed: ProbeResult) -> None:
    write = log.warning if probed.needs_attention else log.info
    write("provider_checked", host=probed.host, found=probed.text, fix=probed.fix or None)
