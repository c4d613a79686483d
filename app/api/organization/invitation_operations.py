"""What the schema says of invitations."""

from app.api.error_examples import BODY_CODES
from app.api.operations import Operation, Security, describe_answer
from app.api.organization.fields import LIFETIME, NAME, describe_body
from app.api.organization.operation_kinds import TAG, list_objects, write_object
from app.api.organization.wire import (
    AcceptedInvitationObject,
    InvitationObject,
    NewInvitationObject,
)
from app.api.parameters import Schema
from app.service.teams import MAX_TITLE_CHARS

TEXT: Schema = {"type": ["string", "null"], "maxLength": MAX_TITLE_CHARS}
LIST_INVITATIONS = list_objects(
    "listInvitations", "", "List invitations that became no key (read)", InvitationObject
)
CREATE_INVITATION = write_object(
    "createInvitation", "", "Make a link that turns into a key (people)", NewInvitationObject,
    describe_body(
        ("user_id",), user_id=NAME, project_id=TEXT, name=TEXT, expires_in_seconds=LIFETIME
    ),
)  # fmt: skip
REVOKE_INVITATION = write_object(
    "revokeInvitation", "{invitation_id}", "Withdraw an invitation (people)", InvitationObject
)
ACCEPT_INVITATION = Operation(
    "acceptInvitation",
    TAG,
    "Exchange the token of a link for a key, once",
    {200: describe_answer(AcceptedInvitationObject, "The key.")},
    BODY_CODES | {"invitation_ended", "ledger_unavailable"},
    Security.NONE,
    body=describe_body(("token",), token={"type": "string", "maxLength": 128}),
)
