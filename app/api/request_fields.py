"""The fields of a generation request: one table that reads a body and describes it in the
schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api import parameters
from app.api.parameters import MAX_WORD_CHARS, Body
from app.domain.images import ResponseFormat
from app.domain.sizes import MAX_SIDE_PX
from app.domain.webhooks import MAX_WEBHOOK_CHARS, WebhookEvent

MAX_MODEL_CHARS = 256
MAX_USER_CHARS = 512
MAX_PARTIAL_IMAGES = 3


@dataclass(frozen=True, slots=True)
class StringField:
    """Text of at most `max_chars` characters."""

    name: str
    max_chars: int
    about: str

    def parse(self, body: Body) -> str | None:
        return parameters.parse_string(body, self.name, self.max_chars)

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "maxLength": self.max_chars, "description": self.about}


@dataclass(frozen=True, slots=True)
class IntegerField:
    """A whole number; `maximum` holds where a deployment sets no other."""

    name: str
    minimum: int
    maximum: int
    about: str

    def parse(self, body: Body, maximum: int | None = None) -> int | None:
        most = self.maximum if maximum is None else maximum
        return parameters.parse_integer(body, self.name, self.minimum, most)

    def describe(self) -> dict[str, Any]:
        return {
            "type": ["integer", "null"],
            "minimum": self.minimum,
            "maximum": self.maximum,
            "description": self.about,
        }


@dataclass(frozen=True, slots=True)
class BooleanField:
    name: str
    about: str

    def parse(self, body: Body) -> bool:
        return parameters.parse_boolean(body, self.name)

    def describe(self) -> dict[str, Any]:
        return {"type": ["boolean", "null"], "default": False, "description": self.about}


@dataclass(frozen=True, slots=True)
class ChoiceField:
    """One of a few words."""

    name: str
    words: tuple[str, ...]
    about: str

    def parse(self, body: Body) -> str | None:
        return parameters.parse_choice(body, self.name, self.words, {})

    def describe(self) -> dict[str, Any]:
        return {
            "type": ["string", "null"],
            "enum": [*self.words, None],
            "description": self.about,
        }


@dataclass(frozen=True, slots=True)
class UrlField:
    """An absolute URL of http or https; an empty text is none."""

    name: str
    max_chars: int
    about: str

    def parse(self, body: Body) -> str | None:
        return parameters.parse_string(body, self.name, self.max_chars) or None

    def describe(self) -> dict[str, Any]:
        return {
            "type": ["string", "null"],
            "format": "uri",
            "maxLength": self.max_chars,
            "description": self.about,
        }


@dataclass(frozen=True, slots=True)
class WordsField:
    """Some of a few words, each once; an empty list is none."""

    name: str
    words: tuple[str, ...]
    about: str

    def parse(self, body: Body) -> tuple[str, ...]:
        return parameters.parse_words(body, self.name, self.words)

    def describe(self) -> dict[str, Any]:
        return {
            "type": ["array", "null"],
            "items": {"type": "string", "enum": [*self.words]},
            "description": self.about,
        }


@dataclass(frozen=True, slots=True)
class PromptField:
    """The one field that a request must have; `max_chars` is the longest that any model takes."""

    name: str
    about: str

    def parse(self, body: Body, max_chars: int) -> str:
        return parameters.parse_prompt(body, self.name, max_chars)

    def describe(self) -> dict[str, Any]:
        return {
            "type": "string",
            "minLength": 1,
            "pattern": parameters.NO_CONTROL_CHARS,
            "description": self.about,
        }


@dataclass(frozen=True, slots=True)
class SideField:
    """A side in pixels; anything else under this name is ignored, as clients send it unasked."""

    name: str
    about: str

    def parse(self, body: Body) -> int | None:
        side = body.get(self.name)
        return side if type(side) is int and 0 < side <= MAX_SIDE_PX else None

    def describe(self) -> dict[str, Any]:
        return {"description": self.about, "examples": [1024]}


Field = (
    StringField
    | IntegerField
    | BooleanField
    | ChoiceField
    | PromptField
    | SideField
    | UrlField
    | WordsField
)

MODEL = StringField(
    "model",
    MAX_MODEL_CHARS,
    "A model of GET /v1/models or an alias of one; missing: the default.",
)
PROMPT = PromptField("prompt", "What should be seen. It must hold a visible character.")
N = IntegerField("n", 1, 10, "How many images; missing: 1.")
SIZE = StringField(
    "size",
    MAX_WORD_CHARS,
    "WIDTHxHEIGHT in pixels, a ratio such as 16:9, a word such as 2k, or auto. What the model does "
    "not offer becomes the nearest size it does; a strict gateway refuses it.",
)
QUALITY = StringField(
    "quality",
    MAX_WORD_CHARS,
    "A quality of the model or one of its aliases. An unknown word means the model's default; a "
    "strict gateway refuses it.",
)
RESPONSE_FORMAT = ChoiceField(
    "response_format",
    tuple(ResponseFormat),
    "Links, base64, or both; missing: what the key, the user, the called name or the gateway says.",
)
STREAM = BooleanField("stream", "Answer with server-sent events; not together with async.")
ASYNC = BooleanField("async", "Answer at once with a task; read it at /v1/tasks/{task_id}.")
WEBHOOK = UrlField(
    "webhook",
    MAX_WEBHOOK_CHARS,
    "An https URL that is told how the task ends, signed as Standard Webhooks; missing: the "
    "default of the key or user, if any.",
)
WEBHOOK_EVENTS = WordsField("webhook_events", tuple(WebhookEvent), "What it is told; missing: all.")
USER = StringField(
    "user",
    MAX_USER_CHARS,
    "For whom this is, in your own words, for reports; the provider is not told. Longer ones than "
    "128 characters are left out.",
)
SAFETY_IDENTIFIER = StringField(
    "safety_identifier", MAX_USER_CHARS, "The same by its newer name, which wins."
)
PARTIAL_IMAGES = IntegerField(
    "partial_images", 0, MAX_PARTIAL_IMAGES, "Checked and dropped: no partial images are sent."
)

SUPPORTED: tuple[Field, ...] = (
    MODEL, PROMPT, N, SIZE, QUALITY, RESPONSE_FORMAT, STREAM, ASYNC, WEBHOOK, WEBHOOK_EVENTS,
    USER, SAFETY_IDENTIFIER,
)  # fmt: skip
ACCEPTED: tuple[StringField | IntegerField, ...] = (PARTIAL_IMAGES,)
"""Checked, then left out: the provider knows nothing like them."""
ASPECT_RATIO = StringField(
    "aspect_ratio", MAX_WORD_CHARS, "auto, or such as 16:9; read where size is missing or auto."
)
ASPECT_RATIO_CAMEL = StringField("aspectRatio", MAX_WORD_CHARS, "aspect_ratio by another name.")
RESOLUTION = StringField(
    "resolution",
    MAX_WORD_CHARS,
    "auto, or such as 2k, 720p, 1024x1024; read where size is missing or auto.",
)
SIDES = tuple(
    SideField(name, "Pixels; read together where no other field tells the size.")
    for name in ("width", "height")
)
RATIOS = (ASPECT_RATIO, ASPECT_RATIO_CAMEL)
SIZE_HINT_FIELDS = frozenset(field.name for field in (*RATIOS, RESOLUTION))
"""Fields that say nothing beyond the size they lead to."""
SUPPORTED_FIELDS = frozenset(field.name for field in SUPPORTED)
ACCEPTED_FIELDS = frozenset(field.name for field in ACCEPTED)

EXAMPLE = {"model": "grok-imagine", "prompt": "a koi in a nebula", "size": "1024x1024"}


def parse_end_user(body: Body) -> str | None:
    """For whom the request is, as its body says."""
    user, safety_identifier = USER.parse(body), SAFETY_IDENTIFIER.parse(body)
    return safety_identifier or user


def describe_body(*, max_images: int, strict: bool) -> Mapping[str, Any]:
    """The JSON schema of a request (draft 2020-12), with the limits of this deployment."""
    hints: tuple[Field, ...] = () if strict else (*RATIOS, RESOLUTION, *SIDES)
    properties = {field.name: field.describe() for field in (*SUPPORTED, *ACCEPTED, *hints)}
    properties[N.name]["maximum"] = max_images
    return {
        "type": "object",
        "title": "GenerationBody",
        "required": [MODEL.name, PROMPT.name] if strict else [PROMPT.name],
        "properties": properties,
        "additionalProperties": not strict,
        "examples": [EXAMPLE],
    }
