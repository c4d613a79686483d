"""What the schema says of the page, of its session and of what holders do for themselves."""

from typing import Any

from app.api.error_examples import BODY_CODES, KEY_CODES
from app.api.holder.keys import MAX_OVERLAP_S
from app.api.holder.wire import (
    AccountBody,
    CatalogBody,
    DeletedPictureBody,
    HolderKeyListBody,
    HolderKeyObject,
    LimitRequestBody,
    NewHolderKeyBody,
    PictureListBody,
    RevokedKeyBody,
    SessionBody,
    SignedOutBody,
)
from app.api.operations import (
    COMMON_HEADERS,
    HIDDEN,
    Answers,
    Operation,
    Security,
    describe_answer,
    describe_path,
    file_answer,
    refer_headers,
)
from app.api.organization.fields import LIFETIME, NAME, WORDS, describe_body
from app.api.organization.limits import LIMITS_SCHEMA
from app.api.parameters import INTEGER, Schema, describe_query
from app.api.tasks import LIST_PARAMETERS
from app.domain.media import IMAGE_NAME
from app.service.teams import MAX_REASON_CHARS

TAG = "Page"
SESSION_CODES = KEY_CODES | {"unknown_url"}
SIGN_IN = Operation(
    "createSession",
    TAG,
    "Sign in: a session cookie for an API key or an admin key",
    {200: describe_answer(SessionBody, "Who is signed in.", (*COMMON_HEADERS, "set-cookie"))},
    SESSION_CODES | BODY_CODES,
    Security.NONE,
    body=describe_body(("key",), key={"type": "string", "maxLength": 256}),
)
READ_SESSION = Operation(
    "readSession",
    TAG,
    "Who is signed in",
    {200: describe_answer(SessionBody, "Who it is.")},
    SESSION_CODES,
)
SIGN_OUT = Operation(
    "deleteSession",
    TAG,
    "Sign out",
    {200: describe_answer(SignedOutBody, "Signed out.", (*COMMON_HEADERS, "set-cookie"))},
    SESSION_CODES,
)
REDIRECT: Answers = {
    303: {
        "description": "Where the browser goes next.",
        "headers": refer_headers(*COMMON_HEADERS, "location", "set-cookie"),
    }
}
BEGIN_SIGN_IN = Operation(
    "beginSignIn",
    TAG,
    "Sign in at the OpenID provider: sends a browser there",
    REDIRECT,
    frozenset({"cross_origin_refused", "unknown_url"}),
    Security.NONE,
    status=303,
)
FINISH_SIGN_IN = Operation(
    "finishSignIn",
    TAG,
    "The way back from the OpenID provider: a session cookie, and the page",
    REDIRECT,
    frozenset({"unknown_url"}),
    Security.NONE,
    tuple(
        describe_query(name, {"type": "string"}, "As the provider sends it.")
        for name in ("code", "state", "iss", "error")
    ),
    status=303,
)
PAGE = Operation(
    "page",
    TAG,
    "The page for a browser, a pointer to the documentation for others",
    {
        200: {
            "description": "The page.",
            "headers": refer_headers(*COMMON_HEADERS),
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        }
    },
    security=Security.NONE,
)


def _describe_file(id: str, *folders: str) -> Operation:
    about = file_answer(
        "The file.", "text/css", "text/javascript", "image/svg+xml", "text/plain",
        headers=(*COMMON_HEADERS, "etag"),
    )  # fmt: skip
    names = tuple(describe_path(name, "A part of its name.") for name in (*folders, "name"))
    unchanged = {"description": "You have these bytes.", "headers": refer_headers("etag")}
    answers: Answers = {200: about, 304: unchanged}
    return Operation(id, TAG, "A file of the page", answers, HIDDEN, Security.NONE, names)


PAGE_FILE = _describe_file("pageFile")
PAGE_FILE_IN_FOLDER = _describe_file("pageFileInFolder", "folder")


def _read(id: str, summary: str, model: Any, *parameters: Schema) -> Operation:
    answers: Answers = {200: describe_answer(model, "As asked.")}
    codes = KEY_CODES | {"invalid_value"} if parameters else KEY_CODES
    return Operation(id, "Holders", summary, answers, codes, parameters=parameters)


def _write(
    id: str, summary: str, model: Any, *parameters: Schema, body: Schema | None = None
) -> Operation:
    answers: Answers = {200: describe_answer(model, "As it is now.")}
    codes = KEY_CODES | KEY_WRITE_CODES | (BODY_CODES if body else frozenset())
    return Operation(id, "Holders", summary, answers, codes, parameters=parameters, body=body)


KEY_WRITE_CODES = frozenset({"conflict", "invalid_value", "not_allowed", "object_not_found"})
KEY_ID = describe_path("key_id", "As in the list.")
READ_ACCOUNT = _read("readAccount", "Who you are here and what you may do", AccountBody)
READ_CATALOG = _read("readCatalog", "Models with sizes, qualities and prices", CatalogBody)
REQUEST_LIMIT = _write(
    "createLimitRequest", "Ask the operator for a higher limit, once an hour", LimitRequestBody,
    body=describe_body(
        ("reason",),
        reason={"type": "string", "minLength": 1, "maxLength": MAX_REASON_CHARS},
        images_per_day={**INTEGER, "type": ["integer", "null"], "minimum": 1, "maximum": 10**9},
    ),
)  # fmt: skip
LIST_PICTURES = _read("listPictures", "List your pictures", PictureListBody, *LIST_PARAMETERS[:2])
DELETE_PICTURE = Operation(
    "deleteImage",
    "Images",
    "Delete a picture of yours",
    {200: describe_answer(DeletedPictureBody, "Deleted.")},
    KEY_CODES | {"image_not_found", "method_not_allowed", "overloaded"},
    parameters=(describe_path("name", "As in a link.", pattern=f"^{IMAGE_NAME.pattern}$"),),
)
LIST_OWN_KEYS = _read("listOwnKeys", "List your keys", HolderKeyListBody)
CREATE_OWN_KEY = _write(
    "createOwnKey", "Create one more key for yourself", NewHolderKeyBody,
    body=describe_body(
        ("name",), name=NAME, limits=LIMITS_SCHEMA, models={**WORDS, "type": ["array", "null"]},
        expires_in_seconds=LIFETIME,
    ),
)  # fmt: skip
UPDATE_OWN_KEY = _write(
    "updateOwnKey", "Rename a key of yours or lower its limits", HolderKeyObject, KEY_ID,
    body=describe_body((), name={**NAME, "type": ["string", "null"]}, limits=LIMITS_SCHEMA),
)  # fmt: skip
DELETE_OWN_KEY = _write("deleteOwnKey", "Revoke a key of yours", RevokedKeyBody, KEY_ID)
ROTATE_OWN_KEY = _write(
    "rotateOwnKey", "Replace the secret of a key of yours", NewHolderKeyBody, KEY_ID,
    body=describe_body(
        (), overlap_seconds={"type": ["integer", "null"], "minimum": 0, "maximum": MAX_OVERLAP_S}
    ),
)  # fmt: skip
