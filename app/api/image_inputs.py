"""Pictures in a request. The models take text only: they would ignore a picture, and the result
would be paid for. So such a request is refused.

A field is a picture by its name (`image`, `mask`, `input_image`, `reference_images[]` …) whatever
it holds, or by its value (a `data:image/…` URL, an `image_url` part of a message) whatever its
name. Blank values are no pictures.
"""

import re
from collections.abc import Container, Mapping
from typing import Any

from app.api.request_body import PRINTABLE_NAME
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
IMAGE_PART_TYPES = frozenset({"image", "image_url", "input_image", "image_file"})
"""`type` of a message part that is a picture, in OpenAI's and Anthropic's APIs."""
IMAGE_DATA_URL = re.compile(r"\s*data:image/", re.IGNORECASE)
SEPARATORS = re.compile(r"\[[^\[\]]{0,64}\]|[^A-Za-z0-9]")


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


def reject_image_inputs(body: Mapping[str, Any], except_for: Container[str]) -> None:
    """Raises `InvalidRequest` for the first field with a picture; skips fields in `except_for`."""
    for name, value in body.items():
        if name not in except_for and (
            (is_image_field(name) and not is_blank(value)) or _contains_image(value)
        ):
            shown = name.partition("[")[0]
            raise InvalidRequest(
                "unsupported_parameter",
                "This model paints from text alone: it takes no reference image and no mask, and "
                "would make a picture without them. Leave this field out and say in the prompt "
                "what should be seen. Nothing was charged.",
                param=shown if PRINTABLE_NAME.fullmatch(shown) else None,
            )


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
