"""Looks at the images of a reply: their type and size, where their links lead, how long they live.

No link is kept, and the upstream key is never sent to the host of one.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from app.adapters.egress.client import REQUEST_HEADERS, open_guarded_client
from app.adapters.egress.guard import EgressGuard, EgressPolicy
from app.adapters.http.connecting import CachingResolver
from app.adapters.http.errors import HttpError
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.images.link_expiry import expires_ms
from app.domain.images import ProviderImage
from app.domain.media import FetchRefused, detect_image

FETCH_TIMEOUT_S = 60.0
MAX_IMAGE_BYTES = 40 * 1024 * 1024


class PictureViewer:
    """Downloads images of one provider, whose own host may be anywhere."""

    def __init__(self, base_url: str) -> None:
        self._guard = EgressGuard([base_url], EgressPolicy())
        self._client = open_guarded_client(CachingResolver(), self._guard, None)

    async def look(self, images: Sequence[ProviderImage]) -> list[dict[str, Any]]:
        """What is known of each image, without its link."""
        return [await self._look(image) for image in images]

    async def close(self) -> None:
        await self._client.close()

    async def _look(self, image: ProviderImage) -> dict[str, Any]:
        if image.body is not None:
            return {"as": "b64_json", **describe(bytes(image.body))}
        link = image.url or ""
        expires = expires_ms(link)
        lives_s = None if expires is None else round(expires / 1000 - time.time())
        found = {"as": "url", "host": urlsplit(link).hostname, "lives_s": lives_s}
        return {**found, **await self._download(link)}

    async def _download(self, link: str) -> Mapping[str, Any]:
        try:
            request = HttpRequest("GET", self._guard.check_link(link, plain=True), REQUEST_HEADERS)
            async with (
                asyncio.timeout(FETCH_TIMEOUT_S),
                await self._client.send(request, SendState()) as response,
            ):
                if response.status != 200:
                    return {"status": response.status}
                body = bytearray()
                while piece := await response.read():
                    body += piece
                    if len(body) > MAX_IMAGE_BYTES:
                        return {"trouble": "larger than 40 MB"}
                says = response.head.headers.get("content-type", "")[:80]
                return {"status": 200, "content_type": says, **describe(bytes(body))}
        except FetchRefused as refusal:
            return {"trouble": refusal.reason}
        except (HttpError, TimeoutError, OSError) as error:
            return {"trouble": type(error).__name__}


def describe(body: bytes) -> dict[str, Any]:
    """Type, pixels, bytes, and a digest that tells one image from another."""
    media = detect_image(body)
    return {
        "type": None if media is None else media.media_type,
        "width": None if media is None else media.width,
        "height": None if media is None else media.height,
        "bytes": len(body),
        "digest": hashlib.sha256(body).hexdigest()[:16],
    }
