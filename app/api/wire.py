"""The bodies of answers, as types: what builds an answer is checked against them, and the schema at
/openapi.json is made from them."""

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from app.domain.job import TaskStatus
from app.domain.limits import LimitKind, LimitWindow, ScopeKind

UnixSeconds = Annotated[int, Field(description="Unix time in seconds.")]
Amount = Annotated[Any, Field(json_schema_extra={"type": ["integer", "string", "null"]})]
"""Whole numbers; money is decimal text in the catalog's currency."""


Result = TypeVar("Result")


class ErrorObject(TypedDict):
    message: Annotated[str, Field(description="What happened, whether it costs, what to do.")]
    type: str
    param: Annotated[str | None, Field(description="The field or parameter that is to blame.")]
    code: Annotated[str, Field(description="Stable; decide by this one.")]
    task_id: NotRequired[Annotated[str, Field(description="The job, once there is one.")]]


class ErrorBody(TypedDict):
    error: ErrorObject


class TokenDetails(TypedDict):
    text_tokens: int
    image_tokens: int


class TokenUsage(TypedDict):
    """Always zeros: the provider counts images. SDKs read these numbers from every answer."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_tokens_details: TokenDetails


class ImageItem(TypedDict, total=False):
    """One picture; `response_format` says which of the first two are there."""

    b64_json: str
    url: Annotated[str, Field(description="A signed link that needs no key and expires.")]
    revised_prompt: str


class IncompleteObject(TypedDict):
    """Fewer pictures came than were asked for; pending ones are added to the task later."""

    asked: int
    delivered: int
    pending: int
    reason: str


class ImagesBody(TypedDict):
    created: UnixSeconds
    data: list[ImageItem]
    size: NotRequired[str]
    quality: NotRequired[str]
    output_format: NotRequired[str]
    usage: TokenUsage
    incomplete: NotRequired[IncompleteObject]


class CollectingObject(TypedDict):
    """The pictures are made and charged; their download is tried again."""

    missing: int
    tries: int
    last_error: str | None


class TaskObject(TypedDict):
    id: str
    object: Literal["task"]
    status: TaskStatus
    progress: Annotated[int | None, Field(ge=0, le=100, description="Per cent.")]
    created: UnixSeconds
    model: str
    summary: Annotated[str, Field(description="One sentence: what became of it, what it costs.")]
    data: Annotated[list[ImageItem] | None, Field(description="The pictures, when completed.")]
    error: Annotated[ErrorObject | None, Field(description="Why it failed.")]
    collecting: NotRequired[CollectingObject]
    incomplete: NotRequired[IncompleteObject]


class TaskListBody(TypedDict):
    object: Literal["list"]
    data: list[TaskObject]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="Give it as `after` for the next page.")]
    has_more: bool


class ModelObject(TypedDict):
    id: str
    object: Literal["model"]
    created: UnixSeconds
    owned_by: str


class ModelListBody(TypedDict):
    object: Literal["list"]
    data: list[ModelObject]


class BindingLimitObject(TypedDict):
    """The limit that will refuse first, without its numbers."""

    scope: ScopeKind
    meter: LimitKind
    window: LimitWindow
    resets_at: str | None


class LimitObject(BindingLimitObject):
    """One limit and what is used of it. `held` belongs to jobs that are still open."""

    limit: Amount
    used: Amount
    held: Amount
    remaining: Amount


class UsageBody(TypedDict):
    object: Literal["usage"]
    user: str
    team: str | None
    key_id: str
    currency: str
    limits: list[LimitObject]
    binding: BindingLimitObject | None


class UsageResultObject(TypedDict):
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


class CostResultObject(TypedDict):
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


class LivenessBody(TypedDict):
    status: Literal["ok", "stuck"]


class ReadinessBody(TypedDict):
    """Beside the status one word for each part, by its name."""

    status: Literal["ready", "not_ready"]


COMPLETED_EVENT = "image_generation.completed"
ERROR_EVENT = "error"
EVENT_SCHEMA = {
    "type": "object",
    "description": "One event for each image, or one error; comments keep the connection alive.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": [COMPLETED_EVENT, ERROR_EVENT]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""Describes each event of a stream, as `schema` does before OpenAPI 3.2."""

NO_USAGE: TokenUsage = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
"""Clients read token counts from every images response, although the provider counts images."""

PICTURE_EXAMPLE: ImageItem = {
    "url": "https://koi.example/v1/images/img_0123456789abcdef0123456789abcdef.png?exp=…&sig=…"
}
IMAGES_EXAMPLE: ImagesBody = {
    "created": 1795000000,
    "data": [PICTURE_EXAMPLE],
    "size": "1024x1024",
    "quality": "medium",
    "output_format": "png",
    "usage": NO_USAGE,
}
TASK_EXAMPLE: TaskObject = {
    "id": "task_0123456789abcdef0123456789abcdef",
    "object": "task",
    "status": TaskStatus.COMPLETED,
    "progress": 100,
    "created": 1795000000,
    "model": "grok-imagine",
    "summary": "1 picture was made; 1 image was charged.",
    "data": [PICTURE_EXAMPLE],
    "error": None,
}
MODEL_EXAMPLE: ModelObject = {
    "id": "grok-imagine",
    "object": "model",
    "created": 0,
    "owned_by": "koi",
}
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "images": (ImagesBody, IMAGES_EXAMPLE),
    "task": (TaskObject, TASK_EXAMPLE),
    "model": (ModelObject, MODEL_EXAMPLE),
}
"""name -> what it is an example of, and the example."""
