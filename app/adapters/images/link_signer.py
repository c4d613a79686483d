"""Signed links: whoever holds one may fetch that image until it expires."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable

from app.domain.media import IMAGE_NAME

HOUR_S = 3600
MIN_SECRET_BYTES = 16
EXPIRY_PATTERN = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)


class LinkSigner:
    """HMAC-SHA256 over image name and expiry, so that a link is verified without a lookup."""

    def __init__(self, secret: bytes, ttl_s: int, now: Callable[[], float] = time.time) -> None:
        """`ttl_s` is the shortest time a link is valid. `ValueError` for a short secret."""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"a link secret needs at least {MIN_SECRET_BYTES} bytes")
        self._secret = secret
        self._ttl_s = ttl_s
        self._now = now

    def sign(self, name: str, expires: int | None = None) -> str:
        """The query string of a link: `exp=…&sig=…`.

        `expires` is Unix seconds, used as given. By default a link expires at the first full hour
        after `ttl_s`, so that links to one image are identical for an hour and can be cached.
        """
        if expires is None:
            expires = -int(-(self._now() + self._ttl_s) // HOUR_S) * HOUR_S
        return f"exp={expires}&sig={self._signature(name, str(expires)).decode()}"

    def verify(self, name: str, exp: str, sig: str) -> bool:
        """True for an unexpired link signed with this secret; False for anything else."""
        if not (IMAGE_NAME.fullmatch(name) and EXPIRY_PATTERN.fullmatch(exp) and sig.isascii()):
            return False
        genuine = hmac.compare_digest(self._signature(name, exp), sig.encode("ascii"))
        return genuine and self._now() < int(exp)

    def _signature(self, name: str, exp: str) -> bytes:
        mac = hmac.digest(self._secret, f"koi image link\n{name}\n{exp}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=")
