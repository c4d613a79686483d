"""What is asked for and what comes back: generation requests, provider images, stored pictures."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum


class ResponseFormat(StrEnum):
    """How a caller gets its pictures: as links, as base64, or both in each item."""

    URL = "url"
    B64_JSON = "b64_json"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation in the provider's words: every field here but `unsent` is sent upstream.

    `model`, `size` and `quality` are catalog values after coercion; `n` counts images, 1 or more.
    `unsent` digests what the caller asked for beyond that (a seed, a style): the provider has no
    such field, but who asks for another picture must not get an earlier one.
    """

    model: str
    prompt: str
    n: int
    size: str
    quality: str
    unsent: str | None = None

    def fingerprint(self, pool: str) -> str:
        """The digest naming requests of one tenant pool that may share one answer."""
        beyond = () if self.unsent is None else (self.unsent,)
        return digest(pool, self.model, self.prompt, self.n, self.size, self.quality, *beyond)


def digest(*parts: str | int | None) -> str:
    """SHA-256 (hex) over parts that cannot run into each other."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ProviderImage:
    """One image as the provider hands it over: either a link or the bytes, never neither."""

    url: str | None = None
    body: bytes | None = None
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
