"""Whether money budgets can be kept: where a model has no price, what it costs is not known."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING

from app.domain.catalog import Catalog
from app.domain.check_result import CheckResult, fail, warn
from app.domain.limits import Limits
from app.domain.principal import is_enabled

if TYPE_CHECKING:
    from app.domain.principal import KeyRing, Team, User
    from app.service.spend_alerts import SpendAlertAdmin

CHECK = "catalog"
PRICES_FIX = (
    "Put the provider's prices under [models.prices] in a copy of app/catalog.toml and name it "
    "with KOI_CATALOG"
)
MAX_NAMED = 5


def say_what_is_unpriced(catalog: Catalog, wanted: str) -> str:
    """Why `wanted`, such as "a money budget", cannot be set now."""
    return (
        f"No price is known for {', '.join(catalog.unpriced)}; set [models.prices] in the catalog "
        f"(KOI_CATALOG) before setting {wanted}."
    )


def check_prices(catalog: Catalog, *, house: Limits, default: Limits) -> Iterator[CheckResult]:
    """What has no price, and the budgets of the settings that cannot be kept without it."""
    if not catalog.unpriced:
        return
    models = ", ".join(catalog.unpriced)
    yield warn(
        CHECK,
        f"no price is known for {models}: costs are shown as unknown and money budgets are refused",
        f"{PRICES_FIX}.",
    )
    yield from find_broken_budgets(catalog, house=house, default=default)


def find_broken_budgets(
    catalog: Catalog, *, house: Limits, default: Limits
) -> Iterator[CheckResult]:
    """Those of the settings. The gateway starts with them, since one that runs must come up again
    after an upgrade; what they limit is refused until there are prices."""
    if not catalog.unpriced:
        return
    models = ", ".join(catalog.unpriced)
    for prefix, limits, refused in (
        ("HOUSE", house, f"every picture of {models} is refused (price_unknown)"),
        ("DEFAULT", default, "no user can be created with it"),
    ):
        if names := " and ".join(_budget_settings(prefix, limits)):
            text = f"{names} cannot be kept, since no price is known for {models}: {refused}"
            yield fail(CHECK, text, f"{PRICES_FIX}, or remove {names}.")


def _budget_settings(prefix: str, limits: Limits) -> Iterator[str]:
    for field in fields(limits):
        if field.name.startswith("micros") and getattr(limits, field.name) is not None:
            yield f"KOI_{prefix}_{field.name.upper().replace('MICROS', 'BUDGET')}"


async def check_stored_budgets(
    catalog: Catalog, keyring: "KeyRing", alerts: "SpendAlertAdmin"
) -> list[CheckResult]:
    """Budgets and spend alerts that were set while there were prices."""
    if not catalog.unpriced:
        return []
    results, models = [], ", ".join(catalog.unpriced)
    holders = [
        *(f"team {one.name}" for one in await keyring.teams() if _limits_money(one)),
        *(f"user {one.name}" for one in await keyring.users() if _limits_money(one)),
        *(
            f"key {one.id}"
            for one in await keyring.keys()
            if one.limits.has_budget and one.revoked_ms is None
        ),
    ]
    if holders:
        text = (
            f"no price is known for {models}: it is refused (price_unknown) to those with a money "
            f"budget: {_name_some(holders)}"
        )
        fix = f"{PRICES_FIX}, or clear the budgets (`koi users set … --budget-per-month none`)."
        results.append(fail(CHECK, text, fix))
    if told := [one.id for one in await alerts.alerts(None)]:
        text = (
            f"no price is known for {models}, so spend alerts cannot count it: {_name_some(told)}"
        )
        results.append(warn(CHECK, text, f"{PRICES_FIX}, or delete them (`koi alerts delete …`)."))
    return results


def _limits_money(holder: "User | Team") -> bool:
    return holder.limits.has_budget and is_enabled(holder)


def _name_some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    named = ", ".join(islice(names, MAX_NAMED))
    return f"{named} and {more} more" if more > 0 else named
