"""What is asked for and what comes back: generation requests, provider images, stored pictures."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.references import Reference


class ResponseFormat(StrEnum):
    """How a caller gets its pictures: as links, as base64, or both in each item."""

    URL = "url"
    B64_JSON = "b64_json"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation in the provider's terms: every field but `unsent` is sent upstream.

    `model`, `size` and `quality` are catalog values; `n` counts images, 1 or more. `unsent` is a
    digest of what else the caller asked for (a seed, a style). The provider has no such fields,
    but a request with another seed must not be answered with an earlier picture. `references` are
    the images it brings along, which the model takes in its field `reference_field`.
    """

    model: str
    prompt: str
    n: int
    size: str
    quality: str
    unsent: str | None = None
    references: "tuple[Reference, ...]" = ()
    reference_field: str = "image"

    def fingerprint(self, pool: str) -> str:
        """The digest that is equal for requests of one cache pool that may share an answer."""
        beyond = () if self.unsent is None else (self.unsent,)
        if self.references:
            beyond = (*beyond, "references", *(each.content_digest for each in self.references))
        return digest(pool, self.model, self.prompt, self.n, self.size, self.quality, *beyond)


def digest(*parts: str | int | None) -> str:
    """SHA-256 (hex) over a list of parts as JSON; no two different lists look alike. Digests are
    stored, so the text must stay what `json.dumps` makes of the list."""
    text = ", ".join(
        [
            encode_basestring_ascii(part) if isinstance(part, str) else _to_json(part)
            for part in parts
        ]
    )
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()


def _to_json(part: int | None) -> str:
    return str(part) if type(part) is int else json.dumps(part)


@dataclass(frozen=True, slots=True)
class ProviderImage:
    """One image as the provider hands it over: a link or the bytes, at least one of them."""

    url: str | None = None
    body: bytes | bytearray | None = None
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One image in our own store. `name` is its public name (`img_…`), unguessable.

    `width` and `height` are pixels; None where the format does not tell them.
    """

    name: str
    media_type: str
    width: int | None
    height: int | None
    revised_prompt: str | None = None
