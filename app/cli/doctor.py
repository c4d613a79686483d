"""`koi doctor`: every part of a deployment looked at, and what to mend; works when nothing runs."""

import asyncio
from typing import TYPE_CHECKING

from app.cli.failure import FAILED, CommandFailed
from app.cli.finding import Finding, Mark, fail, ok, warn
from app.cli.options import AsJson
from app.cli.out import patience, say, say_json
from app.cli.owner import NotTheOwner
from app.cli.session import quiet, read_settings
from app.cli.spending import resuming, shown_scope

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import Office

NOTHING_ELSE = "Nothing else was checked."


def doctor(*, json: AsJson = False) -> int:
    """Check this deployment and say what to mend.

    Settings, disk, store, images, catalog, provider, port and time zone. Nothing is billed and the
    books stay as they are; a data directory that is not there yet is made, with an empty store, as
    the first start would. Exits 1 when something must be mended.

    Example: koi doctor --json
    """
    with patience("Asking the store and the provider"):
        findings = _examine()
    if json:
        say_json([_record(finding) for finding in findings])
    else:
        _say(findings)
    return FAILED if any(finding.mark is Mark.FAIL for finding in findings) else 0


def _examine() -> list[Finding]:
    try:
        settings = read_settings()
    except NotTheOwner as refusal:
        return [fail("data directory", refusal.said, f"{refusal.mend} {NOTHING_ELSE}")]
    except CommandFailed as failure:
        return [
            fail("settings", sentence.strip(), f"Mend this setting first. {NOTHING_ELSE}")
            for sentence in str(failure).splitlines()
        ]
    from app.cli.check_journal import check_journal  # noqa: PLC0415 - heavy
    from app.cli.check_machine import (  # noqa: PLC0415 - heavy
        check_data_dir,
        check_ownership,
        check_port,
        check_settings,
        check_time_zone,
    )
    from app.cli.check_provider import check_provider  # noqa: PLC0415

    quiet()
    if foreign := [*check_ownership(settings)]:
        return [*check_settings(settings), *foreign]  # the rest would stumble over the same files
    return [
        *check_settings(settings),
        *check_time_zone(settings),
        *check_data_dir(settings),
        *check_journal(settings),
        *_stores(settings),
        *asyncio.run(check_provider(settings)),
        *check_port(settings),
    ]


def _stores(settings: "Settings") -> list[Finding]:
    """What needs the store open: the store itself, the catalog and the images."""
    from app.cli.check_store import check_store  # noqa: PLC0415 - heavy
    from app.cli.explain import known_failures  # noqa: PLC0415
    from app.domain.catalog import CatalogInvalid  # noqa: PLC0415
    from app.wiring import open_office, read_catalog, store  # noqa: PLC0415

    async def session() -> list[Finding]:
        async with open_office(settings) as office:
            return await _office(office)

    try:
        read_catalog(settings)
    except CatalogInvalid as error:
        where = settings.catalog or "the shipped catalog"
        mend = f"Mend {where}; KOI_CATALOG names it. The store was not looked at."
        return [fail("catalog", str(error), mend)]
    mend = "Do what the sentence says; KOI_REDIS_URL and KOI_DATA_DIR decide where the store is."
    try:
        with known_failures(), store(settings) as urls:
            found = asyncio.run(check_store("store", urls.ledger, durable=True))
            if settings.cache_redis_url:
                found += asyncio.run(check_store("cache store", urls.cache, durable=False))
            if any(finding.mark is Mark.FAIL for finding in found):
                return found
            return found + asyncio.run(session())
    except CommandFailed as failure:
        return [fail("store", str(failure), mend)]


async def _office(office: "Office") -> list[Finding]:
    from app.cli.check_gateways import check_gateways  # noqa: PLC0415 - heavy
    from app.cli.check_journal import check_journals  # noqa: PLC0415
    from app.cli.check_machine import check_catalog  # noqa: PLC0415
    from app.domain.media import ImageStoreUnavailable  # noqa: PLC0415

    findings = [*await _books(office), *await _stops(office), *check_catalog(office.catalog)]
    findings += check_journals(office.settings, await office.journals.known())
    place = office.settings.image_store
    try:
        await office.pictures.check()
    except ImageStoreUnavailable as error:
        mend = "Check KOI_IMAGE_STORE, its credentials and its disk."
        return [*findings, fail("image store", str(error), mend)]
    findings.append(ok("image store", f"{place}: write, read and delete work"))
    own = await office.pictures.identity()
    return [*findings, *check_gateways(await office.gateways.alive(), own)]


async def _books(office: "Office") -> list[Finding]:
    from app.cli.explain import STORE_LOST  # noqa: PLC0415 - heavy
    from app.domain.errors import LedgerLost  # noqa: PLC0415

    try:
        await office.ledger.verify()
    except LedgerLost:
        said, _, mend = STORE_LOST.partition(". ")
        return [fail("books", said, mend)]
    if not await office.ledger.begun():
        return [ok("books", "none yet: neither the store nor a journal here holds any")]
    return [ok("books", "the store knows everything the journal remembers")]


async def _stops(office: "Office") -> list[Finding]:
    """What an operator stopped and may have forgotten."""
    return [
        warn(
            "spending",
            f"stopped for {shown_scope(stop.scope)}: {stop.reason}",
            f"End it with: {resuming(stop.scope)}",
        )
        for stop in await office.keys.stops()
    ]


def _record(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "status": finding.mark,
        "text": finding.text,
        "mend": finding.mend or None,
    }


def _say(findings: list[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        say(f"{finding.mark:<4}  {finding.check:<{width}}  {finding.text}")
        if finding.mend:
            say(f"{'':<4}  {'':<{width}}  -> {finding.mend}")
    counts = [sum(finding.mark is mark for finding in findings) for mark in Mark]
    say(f"{counts[0]} ok, {counts[1]} to look at, {counts[2]} to mend")
