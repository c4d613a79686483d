"""The bodies of answers, as types: what builds an answer is checked against them, and the schema at
/openapi.json is made from them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.domain.job import TaskStatus

UnixSeconds = Annotated[int, Field(description="Unix time in seconds.")]
Amount = Annotated[Any, Field(json_schema_extra={"type": ["integer", "string", "null"]})]
"""Whole numbers; money is decimal text in the catalog's currency."""


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
    tag: NotRequired[Annotated[str, Field(description="What x-koi-tag said.")]]


class TaskListBody(TypedDict):
    object: Literal["list"]
    data: list[TaskObject]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="Give it as `after` for the next page.")]
    has_more: bool


class PriceObject(TypedDict):
    size: str
    quality: str
    price: Annotated[str | None, Field(description="Of one image; null: not known.")]


class CapabilitiesObject(TypedDict):
    """What a model makes. `references` is how many images a request may bring along; each costs
    `reference_price`, for every image that is made."""

    model: Annotated[str, Field(description="The model's own name.")]
    sizes: Annotated[list[str], Field(description="The first is the default.")]
    qualities: Annotated[list[str], Field(description="The first is the default.")]
    max_prompt_chars: int
    references: int
    reference_price: str | None
    currency: str
    prices: list[PriceObject]


class ModelObject(TypedDict):
    id: str
    object: Literal["model"]
    created: UnixSeconds
    owned_by: str
    supported_endpoint_types: list[str]
    capabilities: CapabilitiesObject


class ModelListBody(TypedDict):
    object: Literal["list"]
    data: list[ModelObject]


class LivenessBody(TypedDict):
    status: Literal["ok", "stuck"]


class ReadinessBody(TypedDict):
    """Beside the status one word for each part, by its name."""

    status: Literal["ready", "not_ready"]


COMPLETED_EVENT = "image_generation.completed"
EDITED_EVENT = "image_edit.completed"
ERROR_EVENT = "error"
EVENT_SCHEMA = {
    "type": "object",
    "description": "One event for each image, or one error; comments keep the connection alive.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": [COMPLETED_EVENT, EDITED_EVENT, ERROR_EVENT]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""Describes each event of a stream, as `schema` does before OpenAPI 3.2."""

TASK_UPDATED_EVENT = "task.updated"
TASK_COMPLETED_EVENT = "task.completed"
TASK_FAILED_EVENT = "task.failed"
TASK_EVENT_SCHEMA = {
    "type": "object",
    "description": "One event for each change of the task; after the last one the stream ends.",
    "required": ["event", "data"],
    "properties": {
        "event": {
            "type": "string",
            "enum": [TASK_UPDATED_EVENT, TASK_COMPLETED_EVENT, TASK_FAILED_EVENT],
        },
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}

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
    "supported_endpoint_types": ["image-generation"],
    "capabilities": {
        "model": "grok-imagine",
        "sizes": ["1024x1024"],
        "qualities": ["standard"],
        "max_prompt_chars": 32_000,
        "references": 0,
        "reference_price": None,
        "currency": "CNY",
        "prices": [{"size": "1024x1024", "quality": "standard", "price": "0.14"}],
    },
}
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "images": (ImagesBody, IMAGES_EXAMPLE),
    "task": (TaskObject, TASK_EXAMPLE),
    "model": (ModelObject, MODEL_EXAMPLE),
}
"""name -> what it is an example of, and the example."""
