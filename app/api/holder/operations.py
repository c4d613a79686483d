"""What the schema says of the page, of its session and of what holders do for themselves."""

from app.api.error_examples import BODY_CODES, KEY_CODES
from app.api.holder.wire import SessionBody, SignedOutBody
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
from app.api.organization.fields import describe_body

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
