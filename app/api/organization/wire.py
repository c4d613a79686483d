"""The objects of the administration API as types: OpenAI's fields first, then Koi's own."""

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from app.api.wire import UnixSeconds
from app.domain.invitation import InvitationStatus

Item = TypeVar("Item")


class ObjectListBody(TypedDict, Generic[Item]):
    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="Give it as `after` for the next page.")]
    has_more: bool


class LimitsObject(TypedDict):
    """Null is unlimited; costs are decimal text in the catalog's currency."""

    max_requests_per_1_minute: int | None
    max_images_per_1_day: int | None
    max_images_per_1_month: int | None
    max_concurrent_requests: int | None
    max_cost_per_1_day: str | None
    max_cost_per_1_month: str | None
    max_images_per_1_minute: int | None
    max_requests_per_1_day: int | None


class RaiseObject(TypedDict):
    """What may be used beyond the limits until then. It ends by itself."""

    by: dict[str, int | str]
    until: UnixSeconds
    reason: str


class RaisedObject(TypedDict):
    object: Literal["koi.raise"]
    id: str
    raised: RaiseObject | None


class ProjectObject(TypedDict):
    """A team. `disabled` says that its keys are refused without being archived."""

    id: str
    object: Literal["organization.project"]
    name: str
    created_at: UnixSeconds
    archived_at: UnixSeconds | None
    status: Literal["active", "archived"]
    disabled: bool
    limits: LimitsObject
    raised: RaiseObject | None


class UserProjectObject(TypedDict):
    id: str
    name: str
    role: Literal["member"]


class UserProjectsObject(TypedDict):
    object: Literal["list"]
    data: list[UserProjectObject]


class OrganizationUserObject(TypedDict):
    id: str
    object: Literal["organization.user"]
    name: str
    email: Annotated[str | None, Field(description="The name, where it is an address.")]
    role: Literal["reader"]
    added_at: UnixSeconds
    created: UnixSeconds
    api_key_last_used_at: UnixSeconds | None
    is_service_account: bool
    projects: UserProjectsObject
    disabled: bool
    limits: LimitsObject
    raised: RaiseObject | None


class ProjectUserObject(TypedDict):
    id: str
    object: Literal["organization.project.user"]
    name: str
    email: str | None
    role: Literal["member"]
    added_at: UnixSeconds


class ServiceAccountObject(TypedDict):
    id: str
    object: Literal["organization.project.service_account"]
    name: str
    role: Literal["member"]
    created_at: UnixSeconds


class NewKeyObject(TypedDict):
    """A new key; `value` is shown this once."""

    id: str
    object: Literal["organization.project.service_account.api_key"]
    name: str
    value: str
    created_at: UnixSeconds
    expires_at: UnixSeconds | None


class NewServiceAccountObject(ServiceAccountObject):
    api_key: NewKeyObject | None


class KeyOwnerObject(TypedDict):
    id: str
    name: str
    email: NotRequired[str | None]
    role: Literal["member"]
    created_at: UnixSeconds


class OwnerObject(TypedDict):
    type: Literal["user", "service_account"]
    user: NotRequired[KeyOwnerObject]
    service_account: NotRequired[KeyOwnerObject]


class ProjectKeyObject(TypedDict):
    id: str
    object: Literal["organization.project.api_key"]
    name: str
    redacted_value: str
    created_at: UnixSeconds
    last_used_at: UnixSeconds | None
    expires_at: UnixSeconds | None
    owner: OwnerObject
    owner_project_access: Literal["active", "inactive"]
    models: Annotated[list[str] | None, Field(description="Null: all that its team may use.")]
    limits: LimitsObject
    raised: RaiseObject | None
    forwards_users: bool


class RateLimitObject(LimitsObject):
    """All limits of a project; they hold for all models together. Null is unlimited."""

    id: str
    object: Literal["project.rate_limit"]
    model: Literal["*"]
    max_tokens_per_1_minute: Literal[0]


class AlertChannelObject(TypedDict):
    """Whom the notice names; Koi itself sends no mail."""

    type: Literal["email"]
    recipients: list[str]
    subject_prefix: str | None


class SpendAlertObject(TypedDict):
    id: str
    object: Literal["organization.spend_alert", "project.spend_alert"]
    currency: str
    interval: Literal["month"]
    threshold_amount: Annotated[int, Field(description="In hundredths of the currency.")]
    notification_channel: AlertChannelObject
    project_id: str | None


class InvitationObject(TypedDict):
    id: Annotated[str, Field(description="Also the id of the key that it becomes.")]
    object: Literal["koi.invitation"]
    user_id: str
    name: str
    status: Annotated[InvitationStatus, Field(description="Only an open link gives a key.")]
    created_at: UnixSeconds
    expires_at: UnixSeconds
    revoked_at: UnixSeconds | None


class NewInvitationObject(InvitationObject):
    url: Annotated[str, Field(description="The link, shown this once.")]


class AcceptedInvitationObject(TypedDict):
    """A new key, shown this once."""

    object: Literal["koi.invitation.accepted"]
    user_id: str
    key_id: str
    key: str
    base_url: str


class EnforcementObject(TypedDict):
    status: Literal["inactive", "enforcing"]


class SpendLimitObject(TypedDict):
    object: Literal["project.spend_limit", "organization.spend_limit"]
    currency: str
    interval: Literal["month"]
    threshold_amount: Annotated[int, Field(description="Hundredths of the currency.")]
    enforcement: EnforcementObject


class ModelPermissionsObject(TypedDict):
    object: Literal["project.model_permissions"]
    mode: Literal["allow_list", "deny_list"]
    model_ids: list[str]


class AuditActorObject(TypedDict):
    """An admin key as `api_key`, an operator at a shell as `session`."""

    type: Literal["api_key", "session"]
    api_key: NotRequired[dict[str, Any]]
    session: NotRequired[dict[str, Any]]


class AuditChangesObject(TypedDict):
    """The record as `koi audit --json` prints it: field -> [old, new]."""

    kind: str
    target: str
    user: str | None
    reason: str | None
    changes: dict[str, list[Any]]


class AuditLogObject(TypedDict):
    """One change. A field named like `type` has the new values, as OpenAI's do."""

    id: str
    type: str
    effective_at: UnixSeconds
    actor: AuditActorObject
    project: dict[str, Any] | None
    koi: AuditChangesObject


class DeletedObject(TypedDict):
    object: str
    deleted: Literal[True]
    id: NotRequired[str]


class SpendingStopObject(TypedDict):
    """`project_id` and `user_id` null: it holds for everybody."""

    project_id: str | None
    user_id: str | None
    reason: str
    stopped_at: UnixSeconds


class SpendingBody(TypedDict):
    object: Literal["koi.spending"]
    stopped: Annotated[bool, Field(description="Whether nobody may spend.")]
    stops: list[SpendingStopObject]


class BackupBody(TypedDict):
    """The latest backup that was finished; all null before the first one."""

    object: Literal["koi.backup"]
    taken_at: UnixSeconds | None
    bytes: Annotated[int | None, Field(description="The size of its file.")]
    entries: Annotated[int | None, Field(description="Ledger entries in it.")]
    pictures: int | None
    sequence: Annotated[int | None, Field(description="The latest change in it.")]
