"""Whether each provider can be reached and accepts our key. It costs nothing.

`koi doctor` reports it, and each start logs it.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog

from app.adapters.upstream.probe import ProbeResult, ProbeVerdict, probe_provider
from app.domain.catalog import Catalog
from app.domain.catalog_providers import ProviderSection
from app.domain.check_result import CheckResult, CheckStatus, fail, warn
from app.domain.ports import Ledger
from app.provider_settings import (
    FurtherProvider,
    key_place,
    open_further_provider,
    open_further_providers,
    section_mistakes,
)
from app.settings import Settings
from app.wiring.catalog_file import read_catalog

log = structlog.get_logger("koi.serve")

CHECK = "provider"
MAX_OPEN_JOBS = 500
ABSENT_FIX = (
    "Put its [[providers]] section back into the catalog, without models if they moved, until its "
    "last task has ended; until then its tasks wait, and are presumed billed in the end."
)
CHECK_STATUSES = {
    ProbeVerdict.GOOD: CheckStatus.OK,
    ProbeVerdict.INCONCLUSIVE: CheckStatus.WARN,
    ProbeVerdict.DOUBTFUL: CheckStatus.WARN,
    ProbeVerdict.BAD: CheckStatus.FAIL,
}


async def check_providers(
    settings: Settings, catalog: Catalog | None, *, served: bool = False
) -> list[CheckResult]:
    """The main provider and those of the catalog, at once. Without a catalog only the main one is
    known."""
    sections = () if catalog is None else catalog.providers
    further = (_check_further(settings, section, served=served) for section in sections)
    found = await asyncio.gather(_check_main(settings, served=served), *further)
    return [result for results in found for result in results]


async def check_open_jobs(ledger: Ledger, catalog: Catalog) -> list[CheckResult]:
    """Providers that have open jobs and that the catalog does not list, as far as the jobs that
    are due first say so."""
    listed = {None, *(section.name for section in catalog.providers)}
    ids = (await ledger.list_unfinished())[:MAX_OPEN_JOBS]
    jobs = await asyncio.gather(*map(ledger.job, ids))
    absent = Counter(job.provider for job in jobs if job is not None)
    return [
        fail(f"{CHECK} {name}", f"open jobs: {count}, and it is not in the catalog", ABSENT_FIX)
        for name, count in absent.items()
        if name not in listed
    ]


async def _check_further(
    settings: Settings, section: ProviderSection, *, served: bool
) -> list[CheckResult]:
    check = f"{CHECK} {section.name}"
    for _, sentence in section_mistakes(section, plain=settings.allow_plain_upstream):
        if served:
            fix = (
                f"To check it from here, run this command with the gateways' {key_place(section)}."
            )
            return [warn(check, f"{sentence}; the gateways that run have it", fix)]
        return [fail(check, sentence, "Correct its [[providers]] section, or set its key.")]
    access = open_further_provider(section)
    probed = _renamed(await probe_provider(access.base_url, access.key), section)
    return [CheckResult(check, CHECK_STATUSES[probed.verdict], probed.text, probed.fix)]


def _renamed(probed: ProbeResult, section: ProviderSection) -> ProbeResult:
    """What to correct is in the catalog, not in the settings."""
    fix = probed.fix.replace("KOI_UPSTREAM_API_KEY", key_place(section))
    return replace(probed, fix=fix.replace("KOI_UPSTREAM_BASE_URL", "base_url"))


async def _check_main(settings: Settings, *, served: bool) -> list[CheckResult]:
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
    """Ask and log the results, within a few seconds."""
    asyncio.run(_log_checks(settings, open_further_providers(settings, read_catalog(settings))))


async def _log_checks(settings: Settings, further: Sequence[FurtherProvider]) -> None:
    async def check(base_url: str, key: str, section: ProviderSection | None) -> None:
        probed = await probe_provider(base_url, key)
        if section is None:
            _log_check(probed)
        else:
            _log_check(_renamed(probed, section), provider=section.name)

    mine = [] if settings.upstream_key is None else [(settings.upstream_key, None)]
    await asyncio.gather(
        *(check(settings.upstream_base_url, key, section) for key, section in mine),
        *(check(one.base_url, one.key, one.section) for one in further),
    )


def _log_check(probed: ProbeResult, **more: str) -> None:
    write = log.warning if probed.needs_attention else log.info
    write("provider_checked", host=probed.host, found=probed.text, fix=probed.fix or None, **more)
