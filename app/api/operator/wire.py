"""The objects of the console's routes as types."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.api.organization.wire import LimitsObject, NewKeyObject, ProjectKeyObject, RaiseObject
from app.api.wire import UnixSeconds
from app.api.wire_usage import UsageGroupFacts


class StandingObject(TypedDict):
    """How one limit stands. Costs are decimal text; `limit` and `left` null: unlimited. What is
    used and held without a limit is null while a model has no price: it is not known."""

    limit: int | str | None
    used: int | str | None
    held: int | str | None
    left: int | str | None
    resets_in_s: int


class CheckObject(TypedDict):
    name: str
    state: Literal["ok", "warn", "fail"]
    sentence: str
    mend: str | None


class OpenJobsObject(TypedDict):
    queued: int
    in_flight: int
    unknown: int
    collecting: int
    held_images: int
    held_cost: str | None
    late_s: int


class AlarmObject(TypedDict):
    user_id: str
    name: str
    limit: str
    used_percent: int


class HealthBody(TypedDict):
    """`house`, `jobs` and `people_above_80` are null while the store does not answer."""

    object: Literal["koi.health"]
    state: Literal["ok", "warn", "fail"]
    as_of: UnixSeconds
    currency: str
    checks: list[CheckObject]
    house: dict[str, StandingObject] | None
    jobs: OpenJobsObject | None
    waiting_for_provider: int | None
    people_above_80: list[AlarmObject] | None


class PersonObject(TypedDict):
    """A user, or a team with how many `members` it has."""

    id: str
    object: Literal["koi.person", "koi.team"]
    name: str
    team: str | None
    is_service_account: bool
    state: Literal["active", "disabled", "archived"]
    created_at: UnixSeconds
    limits: LimitsObject
    raised: RaiseObject | None
    standing: dict[str, StandingObject]
    alarm: str | None
    keys: int
    members: int | None
    last_used_at: UnixSeconds | None


class KeyObject(ProjectKeyObject):
    """A key of anybody; `state` says whether it works."""

    user: str
    team: str | None
    state: Literal["active", "expired", "revoked", "disabled"]
    revoked_at: UnixSeconds | None


class KeyListBody(TypedDict):
    object: Literal["list"]
    data: list[KeyObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    total: int


class IdentifiedObject(TypedDict):
    """One secret of the text, in its order; nothing of it is repeated but its key's ending."""

    kind: Literal["key", "admin_key", "unknown"]
    alive: bool
    sentence: str
    key: KeyObject | None
    admin_key_id: str | None
    admin_key_name: str | None


class IdentifyBody(TypedDict):
    object: Literal["koi.identified"]
    found: list[IdentifiedObject]


class WelcomeBody(TypedDict):
    """`value` of the key is shown this once; null when the person had this key before."""

    object: Literal["koi.welcome"]
    created: bool
    user: str
    team: str | None
    base_url: str
    page: str
    api_key: NewKeyObject | None
    key_id: str
    note: str


class PlannedChangeObject(TypedDict):
    action: Literal["create", "update", "delete"]
    target: str
    changes: dict[str, list[str]]


class ConfigurationBody(TypedDict):
    """`plan` names this difference: give it back to apply exactly that."""

    object: Literal["koi.configuration"]
    applied: bool
    plan: str
    changes: list[PlannedChangeObject]
    archived_teams: list[str]
    keys: list[NewKeyObject]


class KoiUsageRow(UsageGroupFacts):
    requests: int
    images: int
    delivered: int
    presumed: int
    surplus: int
    cost: str | None
    user: NotRequired[str | None]
    team: NotRequired[str | None]


class KoiUsageBody(TypedDict):
    """The largest rows; `left_out` are the others, which CSV has."""

    object: Literal["koi.usage"]
    since: UnixSeconds
    until: UnixSeconds
    group_by: list[str]
    currency: str
    rows: list[KoiUsageRow]
    left_out: int
    total: KoiUsageRow


class JobSaidFacts(TypedDict):
    """For whom and for what the request said it was."""

    project: str | None
    tag: str | None
    end_user: str | None


class JobObject(JobSaidFacts):
    """`kept` is false once the record has expired and only the ledger knows the job. Never a
    prompt."""

    id: str
    object: Literal["koi.job"]
    status: str
    state: str
    user: str
    team: str | None
    key_id: str | None
    model: str
    provider: str
    size: str
    quality: str
    n: int | None
    images: int
    presumed: int
    cost: str | None
    currency: str
    held_images: int
    created_at: UnixSeconds
    sent_at: UnixSeconds | None
    ended_at: UnixSeconds | None
    resolves_at: UnixSeconds | None
    code: str | None
    message: str | None
    request_id: str | None
    calls: list[str]
    pictures: int
    kept: bool
    cancellable: bool


class JobListBody(TypedDict):
    object: Literal["list"]
    data: list[JobObject]
    has_more: bool
    next_page: str | None


class JobDetailBody(JobObject):
    """Events in order; those that the record keeps no time of come where they belong. `log` has the
    latest lines that the process which answers wrote of the job; empty for who is held to a team.
    """

    timeline: list[dict[str, Any]]
    log: list[str]


class RefundBody(TypedDict):
    object: Literal["koi.refund"]
    entry: str
    job: str
    images: int
    cost: str | None
    job_images: int


class ModelPriceObject(TypedDict):
    model: str
    size: str
    quality: str
    price: str | None


class PricesBody(TypedDict):
    object: Literal["koi.prices"]
    currency: str
    unpriced: list[str]
    data: list[ModelPriceObject]


class LedgerCheckBody(TypedDict):
    object: Literal["koi.ledger_check"]
    entries: int
    open_jobs: int
    counters: int
    difference: int
    differences: list[dict[str, Any]]


class AdjustmentBody(TypedDict):
    object: Literal["koi.adjustment"]
    entry: str
    user: str
    images: int
    cost: str | None


class SettingObject(TypedDict):
    name: str
    value: str | None
    source: str
    secret: bool


class GatewayObject(TypedDict):
    id: str
    host: str
    images: str
    heard_at: UnixSeconds


class SettingsBody(TypedDict):
    """`unknown` are KOI_ variables that are no setting, with the nearest one. `gateways` is null
    while the store does not answer."""

    object: Literal["koi.settings"]
    version: str
    store: str
    image_store: str
    data: list[SettingObject]
    unknown: dict[str, str | None]
    gateways: list[GatewayObject] | None
    moved_to: Annotated[
        str | None, Field(description="Where `koi migrate` moves or moved the ledger.")
    ]
