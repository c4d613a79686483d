"""The bodies of requests with reference images, for the schema: as JSON and as a form."""

from collections.abc import Mapping

from app.api.parameters import Schema
from app.api.settings import EdgeSettings
from app.domain.references import MAX_REFERENCE_BYTES, MAX_REFERENCES_BYTES

ABOUT = (
    "Reference images. Bytes: PNG, JPEG, WebP, GIF, BMP or TIFF, up to "
    f"{MAX_REFERENCE_BYTES >> 20} MB each and {MAX_REFERENCES_BYTES >> 20} MB together. How many a "
    "model takes, and what each costs, is in GET /v1/models."
)
IMAGE_TEXT: Schema = {
    "type": "string",
    "description": "A data URI with base64, or an https URL that the provider can open.",
}
IMAGE_OBJECT: Schema = {
    "type": "object",
    "required": ["image_url"],
    "properties": {"image_url": IMAGE_TEXT},
}
EDIT_EXAMPLE = {
    "model": "doubao-seedream-4.5",
    "prompt": "the same koi at night",
    "image": ["https://koi.example/koi.png"],
}


def describe_references(generation: Schema, settings: EdgeSettings) -> dict[str, Schema]:
    """The schemas of a generation and of both kinds of edits, by name, where some model takes
    reference images; elsewhere a generation says nothing of them."""
    most = max(settings.max_references, 1)
    one: list[Schema] = [IMAGE_TEXT, IMAGE_OBJECT]
    several: Schema = {"type": "array", "items": {"anyOf": one}, "minItems": 1, "maxItems": most}
    image: Schema = {"description": ABOUT, "anyOf": [*one, several]}
    optional: Schema = {**image, "anyOf": [*image["anyOf"], {"type": "null"}]}
    fields: Mapping[str, Schema] = generation["properties"]
    edit: Schema = {
        **generation,
        "title": "EditBody",
        "required": ["prompt"],
        "anyOf": [{"required": ["image"]}, {"required": ["images"]}],
        "properties": {**fields, "image": image, "images": several},
        "examples": [EDIT_EXAMPLE],
    }
    files: Schema = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": most,
        "description": f"{ABOUT} One part for each, named image or image[].",
    }
    form: Schema = {
        "type": "object",
        "title": "EditForm",
        "required": ["image", "prompt"],
        "properties": {
            **{name: _without_null(field) for name, field in fields.items()},
            "image": files,
        },
    }
    if settings.max_references:
        generation = {**generation, "properties": {**fields, "image": optional}}
    return {"GenerationBody": generation, "EditBody": edit, "EditForm": form}


def _without_null(field: Schema) -> Schema:
    """A form has no null: the part is left out."""
    shown = dict(field)
    if isinstance(shown.get("type"), list):
        shown["type"] = next(kind for kind in shown["type"] if kind != "null")
    if "enum" in shown:
        shown["enum"] = [word for word in shown["enum"] if word is not None]
    return shown
