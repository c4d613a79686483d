"""What the schema says of each route: parameters, headers, answers and errors.

Limits, patterns and words come from the constants that the code itself reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, get_args

from app.api import billing, estimate, task_stream, tasks, usage
from app.api.attribution import ATTRIBUTION_HEADERS
from app.api.error_examples import GENERATION_CODES, KEY_CODES
from app.api.parameters import Schema, describe_query
from app.api.request_headers import IDEMPOTENCY_KEY_FORMAT, TIMEOUT_HEADERS
from app.api.response_headers import EXPOSED_HEADERS
from app.api.wire import (
    EVENT_SCHEMA,
    EXAMPLES,
    TASK_EVENT_SCHEMA,
    ImagesBody,
    ModelListBody,
    ModelObject,
    TaskListBody,
    TaskObject,
)
from app.api.wire_usage import (
    BillingUsageBody,
    CreditGrantsBody,
    EstimateBody,
    SubscriptionBody,
    UsageBody,
)
from app.domain.formats import MEDIA_TYPES
from app.domain.media import IMAGE_NAME, PreviewSize

HEADERS: Mapping[str, str] = {
    **EXPOSED_HEADERS,
    "allow": "Methods that this URL takes.",
    "cache-control": "How long the answer may be kept.",
    "content-disposition": "inline, or attachment for what a browser might run.",
    "etag": "The name of the picture: its bytes never change.",
    "location": "Where the browser goes next.",
    "set-cookie": "The session, or what makes a browser forget it.",
    "www-authenticate": "Bearer.",
}
"""Every response header with a meaning."""
LIMIT_HEADERS = tuple(name for name in EXPOSED_HEADERS if "ratelimit" in name)
COMMON_HEADERS = ("x-request-id",)
GENERATION_HEADERS = (
    *COMMON_HEADERS, "x-koi-task-id", "x-koi-cost", "x-koi-cache", "cache-status", "age",
    "x-koi-adjusted", *LIMIT_HEADERS,
)  # fmt: skip
TASK_HEADERS = (*COMMON_HEADERS, "cache-control", "x-koi-task-id", "x-koi-cost", "retry-after")

Answers = dict[int | str, dict[str, Any]]


class Security(Enum):
    """Whether a route wants a key: a user's, the admin's or the scraper's, as its summary says."""

    KEY = "key"
    OPTIONAL = "optional"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Operation:
    """One route for the schema; `codes` are its own errors beside those of any connection."""

    id: str
    tag: str
    summary: str
    responses: Answers
    codes: frozenset[str] = frozenset()
    security: Security = Security.KEY
    parameters: Sequence[Schema] = ()
    body: Schema | None = None
    status: int = 200


def refer_headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def describe_answer(
    model: Any, about: str, headers: Sequence[str] = COMMON_HEADERS
) -> dict[str, Any]:
    shown = [name for name, (kind, _) in EXAMPLES.items() if kind in (model, *get_args(model))]
    examples = {name: {"$ref": f"#/components/examples/{name}"} for name in shown}
    return {
        "model": model,
        "description": about,
        "headers": refer_headers(*headers),
        "content": {"application/json": {"examples": examples}} if examples else {},
    }


def file_answer(
    about: str, *media_types: str, headers: Sequence[str] = COMMON_HEADERS
) -> dict[str, Any]:
    """An answer that is not JSON."""
    content = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {"description": about, "headers": refer_headers(*headers), "content": content}


def describe_header(name: str, about: str, **schema: Any) -> Schema:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": about,
        "schema": {"type": "string", **schema},
    }


def describe_path(name: str, about: str, **schema: Any) -> Schema:
    return {**describe_header(name, about, **schema), "in": "path", "required": True}


CLIENT_REQUEST_ID = describe_header(
    "X-Client-Request-Id", "Your name for the request, for the log."
)


def describe_idempotency_key(about: str) -> Schema:
    return describe_header("Idempotency-Key", about, pattern=f"^{IDEMPOTENCY_KEY_FORMAT.pattern}$")


GENERATION_REQUEST_HEADERS = (
    describe_idempotency_key("The same key and body within 24 hours are the same job."),
    describe_header("Cache-Control", "no-cache, no-store, max-age=N, only-if-cached (RFC 9111)."),
    describe_header(
        "X-Stainless-Retry-Count", "SDKs count their repeats here; above 0 it joins the job."
    ),
    *(
        describe_header(name.title(), "How many seconds the client waits.")
        for name in TIMEOUT_HEADERS
    ),
    CLIENT_REQUEST_ID,
    *(describe_header(name, about, **schema) for name, about, schema in ATTRIBUTION_HEADERS),
)
TASK_ID = describe_path("task_id", "As in x-koi-task-id.", pattern=f"^{tasks.TASK_ID.pattern}$")
SIGNATURE = (
    describe_query("exp", {"type": "string"}, "Of a signed link: when it expires."),
    describe_query("sig", {"type": "string"}, "Of a signed link: its signature; no key is needed."),
)
PICTURE_CODES = frozenset({"image_unavailable", "too_many_waiting"})

_CREATED = describe_answer(
    ImagesBody | TaskObject | EstimateBody,
    "The images; with async a task; with stream one event for each image; with dry_run a price.",
    GENERATION_HEADERS,
)
_CREATED["content"]["text/event-stream"] = {"schema": EVENT_SCHEMA}
CREATE_IMAGES = Operation(
    "createImage",
    "Images",
    "Generate images",
    {200: _CREATED},
    GENERATION_CODES,
    parameters=(*estimate.PARAMETERS, *GENERATION_REQUEST_HEADERS),
    body={
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/GenerationBody"}}
        },
    },
)


EDIT_IMAGES = replace(
    CREATE_IMAGES,
    id="createImageEdit",
    summary="Edit images, or follow them, with a model whose `references` are above 0",
    codes=GENERATION_CODES | {"unsupported_endpoint"},
    body={
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/EditForm"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/EditBody"}},
        },
    },
)


def _refuse(id: str, summary: str) -> Operation:
    codes = KEY_CODES | {"unsupported_endpoint"}
    answers: Answers = {400: {"description": "Always refused."}}
    body = {"content": {"multipart/form-data": {"schema": {"type": "object"}}}}
    return Operation(id, "Images", summary, answers, codes, body=body, status=400)


VARY_IMAGES = _refuse("createImageVariation", "Vary images: the provider cannot")
READ_IMAGE = Operation(
    "readImage",
    "Images",
    "Download an image",
    {
        200: file_answer(
            "The bytes as the provider sent them.",
            *sorted({*MEDIA_TYPES.values(), "application/octet-stream"}),
            headers=(*COMMON_HEADERS, "cache-control", "content-disposition", "etag"),
        ),
        304: {"description": "You have these bytes.", "headers": refer_headers("etag")},
    },
    KEY_CODES | {"image_not_found", "invalid_value", "method_not_allowed", "too_many_waiting"},
    Security.OPTIONAL,
    parameters=(
        describe_query("size", {"enum": list(PreviewSize)}, "A smaller WebP: 256 or 768 pixels."),
        describe_path("name", "As in a link.", pattern=f"^{IMAGE_NAME.pattern}$"),
        *SIGNATURE,
        describe_header("If-None-Match", "ETags that you have."),
    ),
)
LIST_TASKS = Operation(
    "listTasks",
    "Tasks",
    "List your tasks",
    {200: describe_answer(TaskListBody, "One page.", (*COMMON_HEADERS, "cache-control"))},
    KEY_CODES | {"invalid_value"},
    parameters=tasks.LIST_PARAMETERS,
)
_TASK = describe_answer(
    TaskObject, "The task; with Accept: text/event-stream its changes.", TASK_HEADERS
)
_TASK["content"][task_stream.MEDIA_TYPE] = {"schema": TASK_EVENT_SCHEMA}


def _read_task(id: str, summary: str) -> Operation:
    return Operation(
        id,
        "Tasks",
        summary,
        {200: _TASK},
        KEY_CODES | PICTURE_CODES | {"invalid_value", "task_not_found"},
        parameters=(TASK_ID, *tasks.READ_PARAMETERS),
    )


READ_TASK = _read_task("readTask", "Read a task")
READ_IMAGE_TASK = _read_task("readImageTask", "Read a task, under its other name")
CANCEL_TASK = Operation(
    "cancelTask",
    "Tasks",
    "Cancel a task",
    {200: describe_answer(TaskObject, "The cancelled task.", TASK_HEADERS)},
    KEY_CODES | PICTURE_CODES | {"task_not_cancellable", "task_not_found"},
    parameters=(TASK_ID,),
)
LIST_MODELS = Operation(
    "listModels",
    "Models",
    "List models",
    {200: describe_answer(ModelListBody, "The models.")},
    KEY_CODES,
)
READ_MODEL = Operation(
    "retrieveModel",
    "Models",
    "Read a model",
    {200: describe_answer(ModelObject, "The model.")},
    KEY_CODES | {"model_not_found"},
    parameters=(describe_path("model", "A name or alias; it may hold slashes."),),
)
READ_USAGE = Operation(
    "readUsage",
    "Usage",
    "Read your limits and usage",
    {200: describe_answer(UsageBody, "Limits and usage.", (*COMMON_HEADERS, *LIMIT_HEADERS))},
    KEY_CODES | {"invalid_value"},
    parameters=usage.USAGE_PARAMETERS,
)
SUBSCRIPTION = Operation(
    "readSubscription",
    "Usage",
    "Your budget of this month, as chat clients read it",
    {200: describe_answer(SubscriptionBody, "The budget.")},
    KEY_CODES,
)
CREDIT_GRANTS = Operation(
    "readCreditGrants",
    "Usage",
    "Your budget and what is left, as chat clients read it",
    {200: describe_answer(CreditGrantsBody, "The budget.")},
    KEY_CODES,
)
BILLING_USAGE = Operation(
    "readBillingUsage",
    "Usage",
    "What you used, as chat clients read it",
    {200: describe_answer(BillingUsageBody, "What you used.")},
    KEY_CODES | {"invalid_value"},
    parameters=billing.USAGE_PARAMETERS,
)
HIDDEN = frozenset({"unknown_url"})
