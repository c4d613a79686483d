"""What the schema says of raises of limits and of spend alerts."""

from app.api.operations import Operation
from app.api.organization.fields import describe_body
from app.api.organization.limits import LIMIT_SCHEMAS
from app.api.organization.money import MAX_CENTS
from app.api.organization.operation_kinds import list_objects, read_object, write_object
from app.api.organization.spend_alerts import ORDERS
from app.api.organization.wire import DeletedObject, RaisedObject, SpendAlertObject
from app.api.parameters import Schema, describe_query
from app.domain.spend_alerts import MAX_RECIPIENT_CHARS, MAX_RECIPIENTS
from app.service.teams import MAX_REASON_CHARS, MAX_TITLE_CHARS

PROJECT = "{project_id}"
TEXT: Schema = {"type": ["string", "null"], "maxLength": MAX_TITLE_CHARS}
RAISE = describe_body(
    ("until", "reason"),
    until={
        "type": ["string", "integer"],
        "description": "midnight, 2h, an ISO time, or Unix seconds.",
    },
    reason={"type": "string", "maxLength": MAX_REASON_CHARS},
    **LIMIT_SCHEMAS,
)
RAISE_USER = write_object(
    "raiseUser", "{user_id}", "Raise a user's limits (money)", RaisedObject, RAISE
)
END_USER_RAISE = write_object(
    "endUserRaise", "{user_id}", "End a user's raise (money)", RaisedObject
)
RAISE_PROJECT = write_object(
    "raiseProject", PROJECT, "Raise a project's limits (money)", RaisedObject, RAISE
)
END_PROJECT_RAISE = write_object(
    "endProjectRaise", PROJECT, "End a project's raise (money)", RaisedObject
)
RAISE_KEY = write_object(
    "raiseKey", "{api_key_id}", "Raise a key's limits (money)", RaisedObject, RAISE
)
END_KEY_RAISE = write_object(
    "endKeyRaise", "{api_key_id}", "End a key's raise (money)", RaisedObject
)

ALERT = "{alert_id}"
ORDER = describe_query("order", {"enum": list(ORDERS)}, "By age. Missing: asc.")
ALERT_BODY = describe_body(
    ("currency", "interval", "threshold_amount", "notification_channel"),
    currency={"type": "string"},
    interval={"enum": ["month"]},
    threshold_amount={"type": "integer", "minimum": 0, "maximum": MAX_CENTS},
    notification_channel={
        "type": "object",
        "required": ["type", "recipients"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": ["email"]},
            "recipients": {
                "type": "array",
                "maxItems": MAX_RECIPIENTS,
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_RECIPIENT_CHARS},
            },
            "subject_prefix": TEXT,
        },
    },
)


def _alerts(whose: str, path: str, where: str) -> tuple[Operation, ...]:
    """List, create, retrieve, update and delete."""
    one = f"{path}/{ALERT}" if path else ALERT
    model, said = SpendAlertObject, f"of {where}"
    return (
        list_objects(f"list{whose}Alerts", path, f"List spend alerts {said} (read)", model, ORDER),
        write_object(
            f"create{whose}Alert", path, f"Add an alert {said} (money)", model, ALERT_BODY
        ),
        read_object(f"retrieve{whose}Alert", one, f"Read an alert {said} (read)", model),
        write_object(
            f"update{whose}Alert", one, f"Change an alert {said} (money)", model, ALERT_BODY
        ),
        write_object(f"delete{whose}Alert", one, f"Delete an alert {said} (money)", DeletedObject),
    )


HOUSE_ALERTS = _alerts("", "", "the house")
PROJECT_ALERTS = _alerts("Project", PROJECT, "a project")
ALL_ALERTS = list_objects(
    "listAllAlerts", "", "List all spend alerts (read)", SpendAlertObject, ORDER
)
