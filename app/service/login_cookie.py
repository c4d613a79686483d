"""What a browser keeps between the sign-in button and the way back from the provider.

Nothing is stored here: the cookie's random part makes state, nonce and verifier, so the three hold
in this browser only, and every worker can check them.
"""

import base64
import hmac
import re
import secrets
import time
from collections.abc import Callable

from app.domain.sign_in import LOGIN_LIFE_S, LoginSecrets, SignInRefused

VALUE = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})", re.ASCII)


class LoginCookies:
    """`secret` signs them: a cookie that somebody planted, or kept too long, is worth nothing."""

    def __init__(self, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret, b"koi sign-in cookie", "sha256")
        self._now = now

    def issue(self) -> str:
        body = f"{int(self._now())}.{secrets.token_urlsafe(32)}"
        return f"{body}.{_derive(self._key, body)}"

    def open(self, value: str) -> LoginSecrets:
        """Raises `SignInRefused`."""
        parts = VALUE.fullmatch(value)
        if parts is None:
            raise SignInRefused("expired", "no cookie of a sign-in")
        begun, random, signature = parts.groups()
        if not hmac.compare_digest(signature, _derive(self._key, f"{begun}.{random}")):
            raise SignInRefused("expired", "a cookie that is not ours")
        if not 0 <= self._now() - int(begun) <= LOGIN_LIFE_S:
            raise SignInRefused("expired", "the sign-in took too long")
        source = random.encode()
        return LoginSecrets(*(_derive(source, word) for word in ("state", "nonce", "verifier")))


def _derive(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
