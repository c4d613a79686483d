"""`koi doctor`: checks every part of a deployment and says what to fix; no gateway need run."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from app.cli.data_dir_owner import NotDataDirOwner, find_unusable_paths
from app.cli.errors import EXIT_FAILED, CommandFailed, translate_errors
from app.cli.options import AsJson
from app.cli.output import print_json, print_line, progress_notice
from app.cli.session import (
    configure_quiet_logging,
    empty_data_dir,
    has_no_data,
    load_settings_as_owner,
)
from app.cli.spending import format_scope, resume_command
from app.domain.check_result import CheckResult, CheckStatus, fail, ok, warn

if TYPE_CHECKING:
    from app.domain.catalog import Catalog
    from app.settings import Settings
    from app.wiring.operator import OperatorContext

NOT_CHECKED = "Nothing else was checked."


def doctor(*, json: AsJson = False) -> int:
    """Check this deployment and say what to fix.

    Settings, disk, store, images, catalog, provider, port and time zone. Nothing is billed, the
    ledger stays as it is, and no data directory is made. Exits 1 when something must be fixed.

    Example: koi doctor --json
    """
    with progress_notice("Asking the store and the provider"):
        results = _run_checks()
    if json:
        print_json([_record(result) for result in results])
    else:
        _print_results(results)
    return EXIT_FAILED if any(result.status is CheckStatus.FAIL for result in results) else 0


def _run_checks() -> list[CheckResult]:
    try:
        settings = load_settings_as_owner()
    except NotDataDirOwner as refusal:
        return [fail("data directory", refusal.said, f"{refusal.fix} {NOT_CHECKED}")]
    except CommandFailed as failure:
        return [
            fail("settings", sentence.strip(), f"Correct this setting first. {NOT_CHECKED}")
            for sentence in str(failure).splitlines()
        ]
    from app.wiring.check_journal import check_journal  # noqa: PLC0415 - heavy
    from app.wiring.check_machine import (  # noqa: PLC0415 - heavy
        check_data_dir,
        check_port,
        check_settings,
        check_time_zone,
    )
    from app.wiring.check_provider import check_providers  # noqa: PLC0415

    configure_quiet_logging()
    if foreign := [*_check_ownership(settings)]:
        return [
            *check_settings(settings),
            *foreign,
        ]  # the other checks would fail on the same files
    stores = _check_new_stores(settings) if has_no_data(settings) else _check_stores(settings)
    return [
        *check_settings(settings),
        *check_time_zone(settings),
        *check_data_dir(settings),
        *check_journal(settings),
        *stores,
        *asyncio.run(
            check_providers(settings, _find_catalog(settings), served=_finds_gateways(stores))
        ),
        *check_port(settings),
    ]


def _find_catalog(settings: "Settings") -> "Catalog | None":
    """None when it cannot be used, which another check says."""
    from app.domain.catalog import CatalogError  # noqa: PLC0415
    from app.wiring.catalog_file import read_catalog  # noqa: PLC0415

    try:
        return read_catalog(settings)
    except CatalogError:
        return None


def _check_ownership(settings: "Settings") -> Iterator[CheckResult]:
    """Files that would stop the next start."""
    for sentence in find_unusable_paths(settings.data_dir, embedded=settings.redis_url is None):
        said, _, fix = sentence.partition(". ")
        yield fail("data directory", said, fix)


def _finds_gateways(stores: list[CheckResult]) -> bool:
    from app.service.check_gateways import CHECK, NONE_RUNS  # noqa: PLC0415 - heavy

    return any(found.check == CHECK and found.text != NONE_RUNS for found in stores)


def _check_new_stores(settings: "Settings") -> list[CheckResult]:
    """Without a data directory, which only the first start makes: whether a store would start."""
    with empty_data_dir(settings) as empty:
        found = _check_stores(empty)
    untried = ok("image store", "file: the first start makes its directory")
    in_files = settings.image_store == "file"
    return [untried if in_files and one.check == untried.check else one for one in found]


def _check_stores(settings: "Settings") -> list[CheckResult]:
    """What needs the store open: the store itself, the catalog and the images."""
    from app.domain.catalog import CatalogError  # noqa: PLC0415
    from app.wiring.catalog_file import read_catalog  # noqa: PLC0415
    from app.wiring.check_store import check_cache_store, check_store  # noqa: PLC0415 - heavy
    from app.wiring.operator import open_operator_context  # noqa: PLC0415
    from app.wiring.stores import store  # noqa: PLC0415

    async def session() -> list[CheckResult]:
        async with open_operator_context(settings) as context:
            return await _check_deployment(context)

    try:
        read_catalog(settings)
    except CatalogError as error:
        where = settings.catalog or "the shipped catalog"
        fix = (
            f"Correct {where}; KOI_CATALOG names it, and `koi catalog check` shows every mistake. "
            "The store was not checked."
        )
        return [fail("catalog", str(error), fix)]
    fix = "Do what the sentence says; KOI_REDIS_URL and KOI_DATA_DIR decide where the store is."
    try:
        with translate_errors(), store(settings) as urls:
            found = asyncio.run(check_store("store", urls.ledger, durable=True))
            if settings.cache_redis_url:
                found += asyncio.run(check_cache_store(urls.cache))
            if any(result.status is CheckStatus.FAIL for result in found):
                return found
            return found + asyncio.run(session())
    except CommandFailed as failure:
        return [fail("store", str(failure), fix)]


async def _check_deployment(context: "OperatorContext") -> list[CheckResult]:
    from app.domain.media import ImageStoreUnavailable  # noqa: PLC0415
    from app.service.check_backup import check_backup  # noqa: PLC0415 - heavy
    from app.service.check_gateways import check_gateways  # noqa: PLC0415 - heavy
    from app.service.check_prices import check_stored_budgets  # noqa: PLC0415
    from app.wiring.adapters import open_pictures  # noqa: PLC0415
    from app.wiring.check_journal import check_journals  # noqa: PLC0415
    from app.wiring.check_machine import check_catalog  # noqa: PLC0415
    from app.wiring.check_months import check_months  # noqa: PLC0415

    results = [
        *await _check_ledger(context),
        *await check_months(context.scripts, context.settings),
        check_backup(await context.backups.latest(), await context.keyring.now_ms()),
        *await _check_stops(context),
        *await _check_notices(context),
        *check_catalog(context.catalog, context.settings),
        *await check_stored_budgets(context.catalog, context.keyring, context.spend_alerts),
        *await _check_open_jobs(context),
    ]
    results += check_journals(context.settings, await context.journals.known())
    settings = context.settings
    try:
        async with AsyncExitStack() as stack:
            pictures = open_pictures(stack, settings)
            await pictures.check()
            own = await pictures.identity()
    except ImageStoreUnavailable as error:
        fix = "Check KOI_IMAGE_STORE, its credentials and its disk."
        return [*results, fail("image store", str(error), fix)]
    results.append(ok("image store", f"{settings.image_store}: write, read and delete work"))
    return [*results, *check_gateways(await context.gateways.list_alive(), own)]


async def _check_ledger(context: "OperatorContext") -> list[CheckResult]:
    from app.cli.error_messages import explain_error  # noqa: PLC0415 - heavy
    from app.domain.errors import LedgerDataLost  # noqa: PLC0415
    from app.domain.other_store import DataVersionUnknown  # noqa: PLC0415

    try:
        await context.ledger.verify()
    except (LedgerDataLost, DataVersionUnknown) as error:
        said, _, fix = (explain_error(error) or "").partition(". ")
        return [fail("books", said, fix)]
    if not await context.ledger.has_data():
        return [ok("books", "no ledger yet, neither in the store nor in a journal here")]
    return [ok("books", "the store has everything that the journal has")]


async def _check_open_jobs(context: "OperatorContext") -> list[CheckResult]:
    from app.domain.errors import LedgerUnavailable  # noqa: PLC0415 - heavy
    from app.wiring.check_provider import check_open_jobs  # noqa: PLC0415

    with suppress(LedgerUnavailable):  # which another check says
        return await check_open_jobs(context.ledger, context.catalog)
    return []


async def _check_stops(context: "OperatorContext") -> list[CheckResult]:
    """Stops that an operator may have forgotten."""
    return [
        warn(
            "spending",
            f"stopped for {format_scope(stop.scope)}: {stop.reason}",
            f"End it with: {resume_command(stop.scope)}",
        )
        for stop in await context.keys.stops()
    ]


async def _check_notices(context: "OperatorContext") -> list[CheckResult]:
    """Whether the latest notice reached the operator."""
    if context.settings.notice_webhook is None:
        return [ok("notices", "no receiver (KOI_NOTICE_WEBHOOK); `koi notices list` shows them")]
    sent = [n for n in await context.deliveries.list_house_notices(20) if n.state != "kept"]
    if not sent:
        return [ok("notices", "none was sent yet; try one with: koi notices test")]
    last = sent[0]
    if last.state == "delivered" or (last.state == "waiting" and last.error is None):
        return [ok("notices", f"the latest ({last.kind}) is {last.state}")]
    fix = "Check KOI_NOTICE_WEBHOOK with: koi notices test"
    return [warn("notices", f"the latest ({last.kind}) is {last.state}: {last.error}", fix)]


def _record(result: CheckResult) -> dict[str, str | None]:
    return {
        "check": result.check,
        "status": result.status,
        "text": result.text,
        "mend": result.fix or None,
    }


def _print_results(results: list[CheckResult]) -> None:
    width = max(len(result.check) for result in results)
    for result in results:
        print_line(f"{result.status:<4}  {result.check:<{width}}  {result.text}")
        if result.fix:
            print_line(f"{'':<4}  {'':<{width}}  -> {result.fix}")
    counts = [sum(result.status is status for result in results) for status in CheckStatus]
    print_line(f"{counts[0]} ok, {counts[1]} to look at, {counts[2]} to fix")
