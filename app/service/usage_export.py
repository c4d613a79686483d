"""Usage as CSV: a table as it was asked for, or charges in FOCUS 1.2 for cost tools.

FOCUS is the FinOps Open Cost and Usage Specification, https://focus.finops.org. A charge is what
one key made of one model and size on one day, told apart by what its requests said for whom and for
what they were; its ids and units are those of the ledger. What a charge costs is null where an
image of it has no price: FOCUS wants a number there, and forbids a 0 that stands for no number.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from app.domain.calendar import Calendar, format_time
from app.domain.money import MICROS_PER_UNIT, format_micros
from app.domain.queries import NOBODY, UsageQuery, UsageRow
from app.domain.rollups import ATTRIBUTIONS
from app.service.csv_text import format_csv_line

COUNTS = ("requests", "images", "delivered", "presumed", "surplus")
CALLER_DIMENSIONS = ("user", "key", *ATTRIBUTIONS)
"""Empty for images that nobody asked for, which the deployment pays, and what was not said."""
FOCUS_DIMENSIONS = ("day", "team", "user", "key", "model", "size", *ATTRIBUTIONS)
FOCUS_COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType",
    "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass",
    "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost",
    "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceType",
    "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter",
    "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
UNIT = "Images"


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The rows of a question, in the order of what they are grouped by, and their sum."""

    question: UsageQuery
    rows: tuple[UsageRow, ...]
    total: UsageRow
    currency: str


@dataclass(frozen=True, slots=True)
class FocusTerms:
    """What FOCUS wants to know beside the usage: who sends the bill, and whose days these are.
    `issuers` send it for models, by name, of further providers."""

    issuer: str
    calendar: Calendar
    currency: str
    issuers: Mapping[str, str] = field(default_factory=dict)

    def issuer_of(self, model: str | None) -> str:
        return self.issuers.get(model or "", self.issuer)


def group_of(row: UsageRow, by: Sequence[str]) -> tuple[str, ...]:
    """As people read it: `-` stands for nobody, where the deployment itself pays."""
    return tuple(getattr(row, name) or (NOBODY if name in CALLER_DIMENSIONS else "") for name in by)


def counts_of(row: UsageRow) -> tuple[int, ...]:
    return tuple(getattr(row, name) for name in COUNTS)


def cost_of(row: UsageRow) -> str | None:
    return None if row.micros is None else format_micros(row.micros)


def csv_lines(report: UsageReport) -> Iterator[str]:
    """With headings; a cost that is not known is empty."""
    by = report.question.by
    yield format_csv_line((*by, *COUNTS, "cost", "currency"))
    for row in report.rows:
        yield format_csv_line((*group_of(row, by), *counts_of(row), cost_of(row), report.currency))


def focus_lines(rows: Sequence[UsageRow], terms: FocusTerms) -> Iterator[str]:
    """With headings. The rows are grouped by `FOCUS_DIMENSIONS`; those without any image are no
    charge."""
    yield format_csv_line(FOCUS_COLUMNS)
    for row in rows:
        if row.images or row.micros:
            charge = _build_charge(row, terms)
            yield format_csv_line([charge[name] for name in FOCUS_COLUMNS])


def _build_charge(row: UsageRow, terms: FocusTerms) -> Mapping[str, object]:
    day = terms.calendar.day(date.fromisoformat(row.day or ""))
    month_starts_ms = terms.calendar.day(date.fromisoformat(f"{day.month}-01")).starts_ms
    unit_price = _unit_price(row)
    cost = None if row.micros is None else _amount(row.micros)
    about = f"Images by {row.model}, {row.size or 'any size'}"
    issuer = terms.issuer_of(row.model)
    tags = {
        "koi/user": row.user,
        "koi/key": row.key,
        "koi/project": row.project,
        "koi/tag": row.tag,
        "koi/end_user": row.end_user,
    }
    return {
        "BilledCost": cost,
        "BillingAccountId": "koi",
        "BillingAccountName": "Koi",
        "BillingAccountType": "Deployment",
        "BillingCurrency": terms.currency,
        "BillingPeriodEnd": format_time(day.month_ends_ms),
        "BillingPeriodStart": format_time(month_starts_ms),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": about if row.micros is not None else f"{about} (price unknown)",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": format_time(day.ends_ms),
        "ChargePeriodStart": format_time(day.starts_ms),
        "ConsumedQuantity": row.images,
        "ConsumedUnit": UNIT,
        "ContractedCost": cost,
        "ContractedUnitPrice": unit_price,
        "EffectiveCost": cost,
        "InvoiceIssuerName": issuer,
        "ListCost": cost,
        "ListUnitPrice": unit_price,
        "PricingCategory": "Standard",
        "PricingQuantity": row.images,
        "PricingUnit": UNIT,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ResourceId": row.key or None,
        "ResourceType": "API key" if row.key else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Image generation",
        "ServiceSubcategory": "Generative AI",
        "SkuId": row.model,
        "SkuMeter": UNIT,
        "SkuPriceDetails": json.dumps({"x_Size": row.size}) if row.size else None,
        "SkuPriceId": f"{row.model}/{row.size}" if row.size else row.model,
        "SubAccountId": row.team or None,
        "SubAccountName": row.team or None,
        "SubAccountType": "Team" if row.team else None,
        "Tags": json.dumps(
            {name: value for name, value in tags.items() if value}, ensure_ascii=False
        ),
    }


def _amount(micros: int) -> Decimal:
    return Decimal(micros) / MICROS_PER_UNIT


def _unit_price(row: UsageRow) -> Decimal | None:
    """Null where the images of the row had several prices, or none that is known."""
    if not row.micros or row.images <= 0 or row.micros % row.images:
        return None
    return _amount(row.micros // row.images)
