"""What the schema says of the administration API. Each summary names the scope that a key needs."""

from app.api.operations import COMMON_HEADERS, Operation, describe_answer, file_answer
from app.api.organization import usage
from app.api.organization.api_keys import ACCESS
from app.api.organization.audit_logs import EVENTS
from app.api.organization.fields import LIFETIME, NAME, WORDS, describe_body
from app.api.organization.limits import LIMIT_SCHEMAS, LIMITS_SCHEMA
from app.api.organization.money import MAX_CENTS, MODES
from app.api.organization.operation_kinds import (
    READ_CODES,
    TAG,
    USAGE_CODES,
)
from app.api.organization.operation_kinds import list_objects as _list
from app.api.organization.operation_kinds import read_object as _read
from app.api.organization.operation_kinds import write_object as _write
from app.api.organization.people import MAX_OVERLAP_S
from app.api.organization.wire import (
    AuditLogObject,
    BackupBody,
    DeletedObject,
    ModelPermissionsObject,
    NewKeyObject,
    NewServiceAccountObject,
    OrganizationUserObject,
    ProjectKeyObject,
    ProjectObject,
    ProjectUserObject,
    RateLimitObject,
    ServiceAccountObject,
    SpendingBody,
    SpendLimitObject,
)
from app.api.organization.wire_admin_keys import AdminKeyObject
from app.api.parameters import INTEGER, Schema, describe_list, describe_query
from app.api.wire_usage import BucketPageBody, CostResultObject, UsageResultObject
from app.domain.administration import AdminScope
from app.service.teams import MAX_REASON_CHARS, MAX_TITLE_CHARS

BOOLEAN: Schema = {"type": ["boolean", "null"]}
OPTIONAL_NAME: Schema = {**NAME, "type": ["string", "null"]}
TEXT: Schema = {"type": ["string", "null"], "maxLength": MAX_TITLE_CHARS}


PROJECT = "{project_id}"
USER = "{project_id}/{user_id}"
ACCOUNT = "{project_id}/{service_account_id}"
KEY = "{project_id}/{api_key_id}"

LIST_PROJECTS = _list(
    "listProjects", "", "List projects (read)", ProjectObject,
    describe_query("include_archived", {"type": "boolean"}, "Archived ones too."),
)  # fmt: skip
CREATE_PROJECT = _write(
    "createProject", "", "Create a project (people; limits: money)", ProjectObject,
    describe_body(("name",), name=NAME, limits=LIMITS_SCHEMA),
)  # fmt: skip
READ_PROJECT = _read("retrieveProject", PROJECT, "Read a project (read)", ProjectObject)
UPDATE_PROJECT = _write(
    "updateProject", PROJECT, "Disable or rename a project (people), set limits (money)",
    ProjectObject,
    describe_body(name=OPTIONAL_NAME, disabled=BOOLEAN, limits=LIMITS_SCHEMA),
)  # fmt: skip
ARCHIVE_PROJECT = _write("archiveProject", PROJECT, "Archive a project (people)", ProjectObject)

LIST_USERS = _list(
    "listUsers", "", "List users and service accounts (read)", OrganizationUserObject,
    describe_list("emails", "Only these."),
)  # fmt: skip
READ_USER = _read("retrieveUser", "{user_id}", "Read a user (read)", OrganizationUserObject)
UPDATE_USER = _write(
    "updateUser", "{user_id}", "Disable or rename a user (people), set limits (money)",
    OrganizationUserObject,
    describe_body(
        role={"enum": ["reader", None]}, name=OPTIONAL_NAME, disabled=BOOLEAN, limits=LIMITS_SCHEMA
    ),
)  # fmt: skip
DELETE_USER = _write(
    "deleteUser", "{user_id}", "Delete a user, revoke keys (people)", DeletedObject
)

MEMBER: Schema = {"enum": ["member", None]}
LIST_PROJECT_USERS = _list(
    "listProjectUsers", PROJECT, "List people of a project (read)", ProjectUserObject
)
CREATE_PROJECT_USER = _write(
    "createProjectUser", PROJECT, "Add a person to a project (people)", ProjectUserObject,
    describe_body(role=MEMBER, user_id=TEXT, email=TEXT),
)  # fmt: skip
READ_PROJECT_USER = _read(
    "retrieveProjectUser", USER, "Read a person of a project (read)", ProjectUserObject
)
UPDATE_PROJECT_USER = _write(
    "updateProjectUser", USER, "Set the role of a person (people)", ProjectUserObject,
    describe_body(role=MEMBER),
)  # fmt: skip
DELETE_PROJECT_USER = _write(
    "deleteProjectUser", USER, "Take a person out of a project (people)", DeletedObject
)

LIST_ACCOUNTS = _list(
    "listServiceAccounts", PROJECT, "List service accounts (read)", ServiceAccountObject
)
CREATE_ACCOUNT = _write(
    "createServiceAccount", PROJECT, "Create a service account with a key (people)",
    NewServiceAccountObject,
    describe_body(
        ("name",), name=NAME, expires_in_seconds=LIFETIME, create_service_account_only=BOOLEAN
    ),
)  # fmt: skip
READ_ACCOUNT = _read(
    "retrieveServiceAccount", ACCOUNT, "Read a service account (read)", ServiceAccountObject
)
UPDATE_ACCOUNT = _write(
    "updateServiceAccount", ACCOUNT, "Rename a service account (people)", ServiceAccountObject,
    describe_body(name=OPTIONAL_NAME, role=MEMBER),
)  # fmt: skip
DELETE_ACCOUNT = _write(
    "deleteServiceAccount", ACCOUNT, "Delete a service account, revoke keys (people)", DeletedObject
)
NO_SCOPES: Schema = {"type": ["array", "null"], "maxItems": 0}
CREATE_ACCOUNT_KEY = _write(
    "createServiceAccountKey", ACCOUNT, "Create one more key (people)", NewKeyObject,
    describe_body(name=OPTIONAL_NAME, expires_in_seconds=LIFETIME, scopes=NO_SCOPES),
)  # fmt: skip

LIST_KEYS = _list(
    "listProjectKeys", PROJECT, "List keys of a project (read)", ProjectKeyObject,
    describe_query("owner_project_access", {"type": "string", "enum": [*ACCESS]}, "Of whom."),
)  # fmt: skip
READ_KEY = _read("retrieveProjectKey", KEY, "Read a key (read)", ProjectKeyObject)
UPDATE_KEY = _write(
    "updateProjectKey", KEY, "Change a key (people; limits, models: money)", ProjectKeyObject,
    describe_body(
        name=OPTIONAL_NAME, expires_in_seconds=LIFETIME, scopes=NO_SCOPES, limits=LIMITS_SCHEMA,
        models={**WORDS, "type": ["array", "null"]}, forwards_users={"type": ["boolean", "null"]},
    ),
)  # fmt: skip
DELETE_KEY = _write("deleteProjectKey", KEY, "Revoke a key (people)", DeletedObject)

LIST_RATE_LIMITS = _list(
    "listRateLimits", PROJECT, "Read the limits of a project (read)", RateLimitObject
)
UPDATE_RATE_LIMIT = _write(
    "updateRateLimit", "{project_id}/{rate_limit_id}", "Set limits of a project (money)",
    RateLimitObject, describe_body((), **LIMIT_SCHEMAS),
)  # fmt: skip
READ_SPEND_LIMIT = _read(
    "retrieveSpendLimit", PROJECT, "Read a project's budget of a month (read)", SpendLimitObject
)
UPDATE_SPEND_LIMIT = _write(
    "updateSpendLimit", PROJECT, "Set a project's budget of a month (money)", SpendLimitObject,
    describe_body(
        ("currency", "interval", "threshold_amount"),
        currency={"type": "string", "description": "The catalog's."},
        interval={"type": "string", "enum": ["month"]},
        threshold_amount={**INTEGER, "maximum": MAX_CENTS},
    ),
)  # fmt: skip
DELETE_SPEND_LIMIT = _write(
    "deleteSpendLimit", PROJECT, "Take away a project's budget (money)", DeletedObject
)
READ_HOUSE_LIMIT = _read(
    "retrieveOrganizationSpendLimit", "", "Read the budget of the whole deployment (read)",
    SpendLimitObject,
)  # fmt: skip
READ_MODELS = _read(
    "retrieveModelPermissions", PROJECT, "Read which models a project may use (read)",
    ModelPermissionsObject,
)  # fmt: skip
UPDATE_MODELS = _write(
    "updateModelPermissions", PROJECT, "Say which models a project may use (money)",
    ModelPermissionsObject,
    describe_body(
        ("mode", "model_ids"), mode={"type": "string", "enum": [*MODES]}, model_ids=WORDS
    ),
)  # fmt: skip
DELETE_MODELS = _write(
    "deleteModelPermissions", PROJECT, "Let a project use every model (money)", DeletedObject
)

LIST_ADMIN_KEYS = _list(
    "listAdminKeys", "", "List admin keys (read)", AdminKeyObject,
    describe_query("order", {"type": "string", "enum": ["asc", "desc"]}, "By creation."),
)  # fmt: skip
CREATE_ADMIN_KEY = _write(
    "createAdminKey", "", "Create an admin key (all)", AdminKeyObject,
    describe_body(
        ("name",), name=NAME, expires_in_seconds=LIFETIME,
        scopes={
            "type": ["array", "null"], "minItems": 1, "maxItems": 4,
            "items": {"type": "string", "enum": [*AdminScope]},
        },
        project_id=TEXT,
    ),
)  # fmt: skip
READ_ADMIN_KEY = _read("retrieveAdminKey", "{key_id}", "Read an admin key (read)", AdminKeyObject)
DELETE_ADMIN_KEY = _write("deleteAdminKey", "{key_id}", "Revoke an admin key (all)", DeletedObject)

LIST_AUDIT_LOGS = _list(
    "listAuditLogs", "", "Read who changed what (read)", AuditLogObject,
    *(
        describe_query(f"effective_at[{word}]", INTEGER, "Unix seconds.")
        for word in ("gt", "gte", "lt", "lte")
    ),
    describe_list("event_types", f"Such as {', '.join(sorted(set(EVENTS.values()))[:3])}."),
    *(describe_list(name, "Only these.") for name in ("project_ids", "actor_ids", "resource_ids")),
)  # fmt: skip

DOWNLOAD_BACKUP = Operation(
    "downloadBackup",
    TAG,
    "Download a backup, without pictures (all)",
    {
        200: file_answer(
            "The file of `koi backup`.",
            "application/gzip",
            headers=(*COMMON_HEADERS, "content-disposition"),
        )
    },
    READ_CODES | {"conflict", "insufficient_permissions"},
)
READ_BACKUP = _read("readLatestBackup", "", "Read when the latest backup was (read)", BackupBody)

READ_SPENDING = _read("readSpending", "", "Read which spending is stopped (read)", SpendingBody)
UPDATE_SPENDING = _write(
    "updateSpending", "", "Stop or resume spending (money)", SpendingBody,
    describe_body(
        ("stopped",), stopped={"type": "boolean"}, project_id=TEXT, user_id=TEXT,
        reason={"type": ["string", "null"], "maxLength": MAX_REASON_CHARS},
    ),
)  # fmt: skip

CREATE_USER = _write(
    "createUser", "", "Create a person (people; limits: money)", OrganizationUserObject,
    describe_body(("name",), name=NAME, title=TEXT, project_id=TEXT, limits=LIMITS_SCHEMA),
)  # fmt: skip
LIST_USER_KEYS = _list("listUserKeys", "{user_id}", "List keys of a user (read)", ProjectKeyObject)
CREATE_USER_KEY = _write(
    "createUserKey", "{user_id}", "Create a key for a user (people)", NewKeyObject,
    describe_body(
        ("name",), name=NAME, expires_in_seconds=LIFETIME, limits=LIMITS_SCHEMA,
        models={**WORDS, "type": ["array", "null"]},
    ),
)  # fmt: skip
REVOKE_KEY = _write("revokeKey", "{api_key_id}", "Revoke a key (people)", DeletedObject)
ROTATE_KEY = _write(
    "rotateKey", "{api_key_id}", "Give a key a new secret (people)", NewKeyObject,
    describe_body(
        (), overlap_seconds={"type": ["integer", "null"], "minimum": 0, "maximum": MAX_OVERLAP_S}
    ),
)  # fmt: skip
RESTORE_PROJECT = _write("restoreProject", PROJECT, "Undo an archive (people)", ProjectObject)
DELETE_PROJECT = _write("deleteProject", PROJECT, "Delete an empty project (people)", DeletedObject)

USAGE_IMAGES = Operation(
    "usageImages",
    TAG,
    "Images by time, project, user, key, model, size (read)",
    {200: describe_answer(BucketPageBody[UsageResultObject], "One page of buckets.")},
    USAGE_CODES,
    parameters=usage.USAGE_PARAMETERS,
)
USAGE_COSTS = Operation(
    "usageCosts",
    TAG,
    "Costs by day, project, user, key, model (read)",
    {200: describe_answer(BucketPageBody[CostResultObject], "One page of buckets.")},
    USAGE_CODES,
    parameters=usage.COST_PARAMETERS,
)
