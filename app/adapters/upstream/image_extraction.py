"""Finding the images in a reply, wherever the provider or a compatible one puts them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from app.adapters.upstream.task_status import JsonLayers, TaskPhase
from app.domain.formats import may_be_image
from app.domain.images import ProviderImage
from app.domain.media import decode_base64

MAX_URL_CHARS = 8 * 1024
MAX_PROMPT_CHARS = 32_000
MAX_IMAGES = 100
MAX_NESTING = 6
MIN_IMAGE_BYTES = 32
"""No image of any format is smaller; words such as "none" decode as base64 to fewer bytes."""

CONTAINERS = ("data", "images", "results", "result", "output", "image_urls", "urls", "metadata")
LINK_KEYS = ("url", "image_url", "imageUrl", "result_url", "image")
BYTE_KEYS = ("b64_json", "b64", "base64", "image_base64")
PROMPT_KEYS = ("revised_prompt", "revisedPrompt", "actual_prompt")
BLOCK_KEYS = ("block_reason", "blockReason", "blocked_reason", "moderation_reason")
BLOCK_WORDS = frozenset({"content_filter", "safety", "prohibited_content", "blocked", "moderation"})

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)
# Control characters except tab and line breaks, marks that change the text's direction, lone
# surrogates.
INVISIBLE_CHARS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
PLAIN_LINK = re.compile(
    r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*+(?::[0-9]{1,5})?/[\w.~!$&'()*+,=:@%/-]*+"
    r"(?:\?[\w.~!$&'()*+,=:@%/?-]++)?",
    re.ASCII,
)
"""An absolute link that resolving leaves as it is; most are."""
INVALID_IN_URL = re.compile(r"[\s\x00-\x20\x7f\\<>\"\ufffd]")


@dataclass(frozen=True, slots=True)
class ExtractedImages:
    """The usable images of a reply; `is_withheld` when moderation withheld some or all.

    `has_image_field`: the reply has a field for images, even if it is empty.
    """

    images: tuple[ProviderImage, ...]
    is_withheld: bool
    has_image_field: bool


NO_IMAGES = ExtractedImages((), is_withheld=False, has_image_field=False)


def extract_images(layers: JsonLayers, site: str, phase: TaskPhase | None) -> ExtractedImages:
    """Search a reply. `site` is the base URL of relative links, with a slash at its end.

    One compatible provider has the link of a completed task in `fail_reason`, in old rows.
    """
    images: list[ProviderImage] = []
    for layer in layers:
        images = images or list(_find_images(layer, site))[:MAX_IMAGES]
    if phase is TaskPhase.COMPLETED and not images:
        reasons = (layer.get("fail_reason") for layer in layers)
        links = (_image_of_link(reason, site, None) for reason in reasons)
        images = [image for image in links if image is not None]
    return ExtractedImages(
        tuple(images),
        is_withheld=any(_is_withheld(layer) for layer in layers),
        has_image_field=any(key in layer for layer in layers for key in CONTAINERS),
    )


def _find_images(node: Any, site: str, nesting: int = 0) -> Iterator[ProviderImage]:
    if nesting > MAX_NESTING:
        return
    if isinstance(node, list):
        for item in node[:MAX_IMAGES]:
            yield from _find_images(item, site, nesting + 1)
    elif isinstance(node, str):
        image = _image_of_link(node, site, None)
        if image is not None:
            yield image
    elif isinstance(node, dict):
        yield from _find_in_object(node, site, nesting)


def _find_in_object(node: Mapping[str, Any], site: str, nesting: int) -> Iterator[ProviderImage]:
    """Containers before links: one provider repeats its first image's link at the top level."""
    for key in CONTAINERS:
        found = list(_find_images(node.get(key), site, nesting + 1))
        if found:
            yield from found
            return
    yield from find_in_item(node, site, nesting)


def find_in_item(item: Mapping[str, Any], site: str, nesting: int) -> Iterator[ProviderImage]:
    """The images of one item, which is no container."""
    if _is_blocked(item):
        return
    prompt = find_revised_prompt(item)
    for key in BYTE_KEYS:
        body = _decode_image_bytes(item.get(key), named=True)
        if body is not None:
            yield ProviderImage(body=body, revised_prompt=prompt)
            return
    for key in LINK_KEYS:
        places = item.get(key)
        links = places if isinstance(places, list) else [places]
        found = [
            image for link in links if (image := _image_of_link(link, site, prompt)) is not None
        ]
        if not found and isinstance(places, dict):
            found = list(_find_images(places, site, nesting + 1))
        if found:
            yield from found
            return


def find_revised_prompt(item: Mapping[str, Any]) -> str | None:
    """The prompt that the provider made of ours, as plain text."""
    for key in PROMPT_KEYS:
        prompt = item.get(key)
        if isinstance(prompt, str) and (
            clean := INVISIBLE_CHARS.sub("", prompt[:MAX_PROMPT_CHARS]).strip()
        ):
            return clean
    return None


def _image_of_link(text: Any, site: str, prompt: str | None) -> ProviderImage | None:
    """An image by its link (http, https), or by its bytes (data URI, long base64)."""
    if not isinstance(text, str) or not text.strip():
        return None
    text = text.strip()
    scheme = SCHEME.match(text)
    kind = "" if scheme is None else scheme[0].lower()
    if kind == "data:" or (not kind and len(text) > MAX_URL_CHARS):
        body = _decode_image_bytes(text, named=text[:11].lower() == "data:image/")
        return None if body is None else ProviderImage(body=body, revised_prompt=prompt)
    if kind not in ("", "http:", "https:"):
        return None
    url = _resolve_url(text.replace(" ", "%20") if kind else text, site)
    return None if url is None else ProviderImage(url=url, revised_prompt=prompt)


def _resolve_url(text: str, site: str) -> str | None:
    if len(text) <= MAX_URL_CHARS and PLAIN_LINK.fullmatch(text) is not None:
        return text
    if "/" not in text or len(text) > MAX_URL_CHARS or INVALID_IN_URL.search(text):
        return None
    try:
        url = urljoin(site, text)
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return url if host and len(url) <= MAX_URL_CHARS else None


def _decode_image_bytes(text: Any, *, named: bool) -> bytes | bytearray | None:
    """Bytes from base64. If the field's name or type says that they are an image (`named`), any
    format is taken; else only bytes that look like an image."""
    body = decode_base64(text) if isinstance(text, str) else None
    if body is None or (named and len(body) >= MIN_IMAGE_BYTES):
        return body
    return body if may_be_image(body) else None


def _is_blocked(node: Mapping[str, Any]) -> bool:
    if node.get("respect_moderation") is False or any(node.get(key) for key in BLOCK_KEYS):
        return True
    reasons = (node.get("finish_reason"), node.get("finishReason"))
    return any(isinstance(word, str) and word.lower() in BLOCK_WORDS for word in reasons)


def _is_withheld(node: Any, nesting: int = 0) -> bool:
    if isinstance(node, list):
        return any(_is_withheld(item, nesting) for item in node[:MAX_IMAGES])
    if not isinstance(node, dict) or nesting > MAX_NESTING:
        return False
    return _is_blocked(node) or any(_is_withheld(node.get(key), nesting + 1) for key in CONTAINERS)
