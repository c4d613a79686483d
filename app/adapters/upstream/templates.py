"""The shape of a reply without what changes from call to call, and without what is secret.

In a template `$id`, `$status`, `$progress`, `$created` and the like stand for the values of a task,
`$url` and `$b64` for an image, and `{"$each": …}` for a list with one element for each image. Links
and image bytes never get into a template, nor does the upstream key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.adapters.upstream.image_extraction import BYTE_KEYS, LINK_KEYS, PROMPT_KEYS
from app.adapters.upstream.task_status import PROGRESS_KEYS, STATUS_KEYS

LINK = re.compile(r"https?://", re.IGNORECASE)
LINK_INSIDE = re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE)
QUERY = re.compile(r"\?[^\s?]*=\S*")
"""The end of a link, perhaps with a signature, also where the scheme is missing."""
SHORTENED_CHARS = 300
MIN_BASE64_CHARS = 200
NEAR_S = 10 * 86_400
"""A number that is a time within these seconds of now is taken for one."""
SOON_S = 60
FINISH_KEY = re.compile(r"finish|complet|ended", re.IGNORECASE)


@dataclass(slots=True)
class ReplyTraits:
    """What the values in a body looked like before they were left out."""

    relative_link: bool = False
    data_prefix: bool = False
    revised_prompt: str = "absent"
    """present, absent or empty"""
    progress_form: str | None = None
    """int, percent or fraction"""


@dataclass(slots=True)
class TemplateMaker:
    """Makes the template of one body. `secrets` are texts that are hidden wherever they stand."""

    secrets: tuple[str, ...]
    now: float
    task_id: str | None = None
    model: str = ""
    has_phase: bool = False
    traits: ReplyTraits = field(default_factory=ReplyTraits)

    def make(self, value: Any, key: str = "", *, in_item: bool = False) -> Any:
        """The template of a value that stands under `key`; `in_item`: inside one image."""
        if isinstance(value, Mapping):
            return {
                self.hide(str(name)): self.make(inner, str(name), in_item=in_item)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            if not in_item and value and all(_shows_image(element) for element in value):
                return {"$each": self.make(value[0], key, in_item=True)}
            return [self.make(element, key, in_item=in_item) for element in value]
        if isinstance(value, str):
            return self._text(value, key, in_item)
        return self._number(value, key)

    def _text(self, text: str, key: str, in_item: bool) -> str:
        if key in BYTE_KEYS or text.startswith("data:") or len(text) > 8 * 1024:
            self.traits.data_prefix |= text.startswith("data:")
            return "$b64" if len(text) > MIN_BASE64_CHARS else ""
        if _is_link(text, key):
            self.traits.relative_link |= LINK.match(text) is None
            return "$url" if in_item else "$first_url"
        if key in PROMPT_KEYS:
            self.traits.revised_prompt = "present" if text.strip() else "empty"
            return "$revised" if text.strip() else ""
        return self._word(text, key)

    def _word(self, text: str, key: str) -> str:
        if self.has_phase and key in STATUS_KEYS:
            return "$status"
        if key in PROGRESS_KEYS and re.fullmatch(r"\d{1,3}\s*%", text):
            self.traits.progress_form = "percent"
            return "$progress%"
        if self.model and text == self.model:
            return "$model"
        if text.isdigit() and self._is_time(int(text)):
            return "$created_text"
        if self.task_id:
            text = text.replace(self.task_id, "$id")
        return self.hide(text)

    def hide(self, text: str) -> str:
        """The text without secrets and links, shortened."""
        for secret in filter(None, self.secrets):
            text = text.replace(secret, "[hidden]")
        return QUERY.sub("?[hidden]", LINK_INSIDE.sub("[link]", text))[:SHORTENED_CHARS]

    def _number(self, value: Any, key: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if key in PROGRESS_KEYS:
            self.traits.progress_form = "int" if isinstance(value, int) else "fraction"
            return "$progress" if isinstance(value, int) else "$progress_fraction"
        if not self._is_time(value):
            return value
        if value > self.now + SOON_S:
            return "$expires"
        return "$finishes" if FINISH_KEY.search(key) else "$created"

    def _is_time(self, value: float) -> bool:
        return abs(value - self.now) < NEAR_S


def _is_link(text: str, key: str) -> bool:
    named = key in LINK_KEYS and text.startswith("/")
    return named or LINK.match(text) is not None


def _shows_image(value: Any, key: str = "") -> bool:
    """Whether a link or the bytes of an image stand somewhere in it."""
    if isinstance(value, Mapping):
        return any(_shows_image(inner, str(name)) for name, inner in value.items())
    if isinstance(value, list):
        return any(_shows_image(element, key) for element in value)
    if not isinstance(value, str):
        return False
    long_bytes = key in BYTE_KEYS and len(value) > MIN_BASE64_CHARS
    return long_bytes or value.startswith("data:image") or _is_link(value, key)
