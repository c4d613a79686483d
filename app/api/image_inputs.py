"""Pictures in a request. Most models take text only: they would ignore a picture, and the result
would be paid for. So such a request is refused. Others take reference images, and nothing else: a
mask or a pose would be ignored by them, too.

A field is a picture by its name (`image`, `mask`, `input_image`, `reference_images[]` …) whatever
it holds, or by its value (a `data:image/…` URL, an `image_url` part of a message) whatever its
name. Blank values are no pictures.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.api.parameters import PRINTABLE_NAME
from app.domain.catalog import Catalog, Model
from app.domain.errors import InvalidRequest

IMAGE_FIELD_NAMES = frozenset(
    {
        "image", "images", "img", "imgs", "mask", "masks",
        "imageurl", "imageurls", "imguri", "imgurl", "imgurls", "imageuri", "imageuris",
        "imagebase64", "imageb64", "imagebytes", "imagedata", "imagefile", "imagefiles",
        "imageid", "imageids", "imagefileid", "imageinput", "imageinputs", "imageprompt",
        "imageprompts", "imagereference", "imagereferences", "imageref", "imagerefs",
        "baseimage", "baseimages", "characterimage", "characterreference", "conditionimage",
        "conditioningimage", "contentimage", "controlimage", "controlimages", "controlnetimage",
        "editimage", "faceimage", "imagetoimage", "img2img", "initimage", "initimages",
        "initimageurl", "initialimage", "inlinedata", "inputimage", "inputimages", "inputimageurl",
        "inputimageurls", "inputreference", "inputreferences", "inpaintmask", "ipadapterimage",
        "maskimage", "maskimages", "maskimageurl", "maskurl", "maskb64", "maskbase64",
        "originalimage", "poseimage", "promptimage", "promptimages", "refimage", "refimages",
        "refimageurl", "refimageurls", "references", "referenceimage",
        "referenceimages", "referenceimageurl", "referenceimageurls", "referenceurls",
        "sourceimage", "sourceimages", "sourceimageurl", "startimage", "structureimage",
        "styleimage", "styleimages", "stylereference", "subjectimage", "subjectimages",
        "subjectreference", "targetimage", "uploadedimage", "uploadedimages",
    }
)  # fmt: skip
"""In lower case, without `_`, `-` and brackets."""
REFERENCE_FIELD_NAMES = frozenset(
    {
        "image", "images", "img", "imgs", "imageurl", "imageurls", "imguri", "imgurl", "imgurls",
        "imageuri", "imageuris", "imagefile", "imagefiles", "imageinput", "imageinputs",
        "imagereference", "imagereferences", "imageref", "imagerefs", "inputimage", "inputimages",
        "inputimageurl", "inputimageurls", "inputreference", "inputreferences", "refimage",
        "refimages", "refimageurl", "refimageurls", "references", "referenceimage",
        "referenceimages", "referenceimageurl", "referenceimageurls", "referenceurls",
        "sourceimage", "sourceimages", "uploadedimage", "uploadedimages",
    }
)  # fmt: skip
"""Those of them that mean no more than: a picture to go by."""
IMAGE_PART_TYPES = frozenset({"image", "image_url", "input_image", "image_file"})
"""`type` of a message part that is a picture, in OpenAI's and Anthropic's APIs."""
IMAGE_DATA_URL = re.compile(r"\s*data:image/", re.IGNORECASE)
SEPARATORS = re.compile(r"\[[^\[\]]{0,64}\]|[^A-Za-z0-9]")
INDEXES = re.compile(r"\[[0-9]{0,4}\]|[^A-Za-z0-9]", re.ASCII)
"""`image[mask]` is a mask, and no picture to go by."""


def is_blank(value: Any) -> bool:
    """Null, false, blank text, and lists and objects of only these."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list):
        return all(is_blank(item) for item in value)
    if isinstance(value, dict):
        return all(is_blank(item) for item in value.values())
    return value is None or value is False


def is_image_field(name: str) -> bool:
    return SEPARATORS.sub("", name).lower() in IMAGE_FIELD_NAMES


def is_reference_field(name: str) -> bool:
    return INDEXES.sub("", name).lower() in REFERENCE_FIELD_NAMES


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A reference image as the field `name` writes it: a text, or an object with one."""

    name: str
    value: Any = field(repr=False)


def take_references(body: dict[str, Any]) -> tuple[dict[str, Any], tuple[ImageInput, ...]]:
    """The body without its reference images, and these in their order."""
    given = {
        name: value if isinstance(value, list) else [value]
        for name, value in body.items()
        if is_reference_field(name) and not is_blank(value)
    }
    if not given:
        return body, ()
    inputs = [
        ImageInput(show_name(name) or "image", item)
        for name, items in given.items()
        for item in items
        if not is_blank(item)
    ]
    return {name: value for name, value in body.items() if name not in given}, tuple(inputs)


def check_references(inputs: Sequence[ImageInput], model: Model, catalog: Catalog) -> None:
    """Raises `InvalidRequest` when the model takes none, or not so many."""
    if inputs and not model.references:
        others = ", ".join(other.name for other in catalog.with_references)
        raise InvalidRequest(
            "unsupported_parameter",
            f"The model {model.name} paints from text alone. These take reference images: {others}."
            " Nothing was charged.",
            param=inputs[0].name,
        )
    if len(inputs) > model.references:
        raise too_many_error(model.references, inputs[0].name)


def too_many_error(most: int, name: str = "image") -> InvalidRequest:
    return InvalidRequest(
        "invalid_value", f"{name} takes at most {most} images. Nothing was charged.", param=name
    )


def reject_image_inputs(
    body: Mapping[str, Any], except_for: Container[str], *, takes_references: bool = False
) -> None:
    """Raises `InvalidRequest` for the first field with a picture; skips fields in `except_for`."""
    for name, value in body.items():
        if name not in except_for and (
            (is_image_field(name) and not is_blank(value)) or _contains_image(value)
        ):
            raise unsupported_image_error(name, takes_references=takes_references)


def unsupported_image_error(name: str, *, takes_references: bool = True) -> InvalidRequest:
    """For a picture that would be ignored."""
    if takes_references:
        why = (
            "This model takes reference images in the field image, and no other pictures: no mask, "
            "no pose. It would make a picture without this one. Leave it out and say in the prompt "
            "what should be changed. Nothing was charged."
        )
    else:
        why = (
            "This model paints from text alone: it takes no reference image and no mask, and "
            "would make a picture without them. Leave this field out and say in the prompt "
            "what should be seen. Nothing was charged."
        )
    return InvalidRequest("unsupported_parameter", why, param=show_name(name))


def show_name(name: str) -> str | None:
    """The name of a field without its brackets, if it may be repeated to the caller."""
    shown = name.partition("[")[0]
    return shown if PRINTABLE_NAME.fullmatch(shown) else None


def _contains_image(value: Any) -> bool:
    if isinstance(value, str):
        return IMAGE_DATA_URL.match(value) is not None
    if isinstance(value, list):
        return any(_contains_image(item) for item in value)
    if isinstance(value, dict):
        return str(value.get("type")) in IMAGE_PART_TYPES or any(
            (is_image_field(name) and not is_blank(item)) or _contains_image(item)
            for name, item in value.items()
        )
    return False
