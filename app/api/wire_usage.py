"""The bodies of answers about usage, limits and money, as types; see `app.api.wire`."""

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from app.api.wire import Amount, UnixSeconds
from app.domain.cache import CacheOutcome
from app.domain.limits import LimitKind, LimitWindow, ScopeKind

Result = TypeVar("Result")


class BindingLimitObject(TypedDict):
    """The limit that will refuse first, without its numbers."""

    scope: ScopeKind
    meter: LimitKind
    window: LimitWindow
    resets_at: str | None


class RaisedLimitObject(TypedDict):
    """How much of a limit is a raise, which ends by itself."""

    by: Amount
    until: str


class LimitObject(BindingLimitObject):
    """One limit and what is used of it. `held` belongs to jobs that are still open."""

    limit: Amount
    used: Amount
    held: Amount
    remaining: Amount
    raised: NotRequired[RaisedLimitObject]


class UsageGroupFacts(TypedDict, total=False):
    """What a row has in common, by what it was grouped."""

    key: str | None
    model: str | None
    size: str | None
    day: str | None
    project: str | None
    tag: str | None
    end_user: str | None


class OwnUsageRow(UsageGroupFacts):
    """What one group of your jobs of this month used; `cost` is null where a price is unknown."""

    requests: int
    images: int
    cost: str | None


class UsageBody(TypedDict):
    object: Literal["usage"]
    user: str
    team: str | None
    key_id: str
    currency: str
    limits: list[LimitObject]
    binding: BindingLimitObject | None
    used: NotRequired[list[OwnUsageRow]]


class SubscriptionBody(TypedDict):
    """Amounts are in the catalog's currency; 100000000 stands for no limit. While a model has no
    price they are numbers of images."""

    object: Literal["billing_subscription"]
    has_payment_method: bool
    soft_limit_usd: float
    hard_limit_usd: float
    system_hard_limit_usd: float
    access_until: UnixSeconds


class CreditGrantsBody(TypedDict):
    """In the catalog's currency; while a model has no price, numbers of images."""

    object: Literal["credit_summary"]
    total_granted: float
    total_used: float
    total_available: float


class BillingUsageBody(TypedDict):
    object: Literal["list"]
    total_usage: Annotated[
        float,
        Field(
            description="Hundredths of the catalog's currency. While a model, or an image counted "
            "here, has no price: 100 for each image."
        ),
    ]


class EstimateBody(TypedDict):
    """What a generation would cost now. Nothing was reserved, so it may differ a moment later."""

    object: Literal["image_generation.estimate"]
    model: str
    size: str
    quality: str
    n: int
    cost: Annotated[str | None, Field(description="Decimal text; null: the price is not known.")]
    unit_cost: Annotated[str | None, Field(description="Of one image that the cache lacks.")]
    currency: str
    cache: Annotated[CacheOutcome, Field(description="hit and joined cost nothing.")]
    refused: bool
    refused_by: Annotated[list[BindingLimitObject], Field(description="Limits that are reached.")]


class SaidFacts(TypedDict, total=False):
    """What requests said for whom and for what they were, where it was grouped by."""

    openai_project: str | None
    tag: str | None
    end_user: str | None


class UsageResultObject(SaidFacts):
    """Sums of one group; dimensions that were not grouped by are null."""

    object: Literal["organization.usage.images.result"]
    images: int
    num_model_requests: int
    size: str | None
    source: str | None
    model: str | None
    user_id: str | None
    api_key_id: str | None
    project_id: str | None


class MoneyObject(TypedDict):
    value: Annotated[Any, Field(json_schema_extra={"type": "number"})]
    currency: str


class CostResultObject(SaidFacts):
    """Sums of one group; `amount` is null where the price of an image is not known."""

    object: Literal["organization.costs.result"]
    amount: MoneyObject | None
    line_item: str | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    api_source: str | None
    quantity: int | None
    quantity_unit: str | None


class BucketObject(TypedDict, Generic[Result]):
    object: Literal["bucket"]
    start_time: UnixSeconds
    end_time: UnixSeconds
    results: list[Result]


class BucketPageBody(TypedDict, Generic[Result]):
    object: Literal["page"]
    data: list[BucketObject[Result]]
    has_more: bool
    next_page: Annotated[str | None, Field(description="Give it as `page` for the next page.")]
