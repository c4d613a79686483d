"""Signatures in the form of Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

import base64
import hmac
import secrets
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
SECRET_BYTES = 32


def new_webhook_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def build_signed_headers(
    id: str, timestamp_s: int, body: bytes, secrets: Sequence[str]
) -> dict[str, str]:
    """The headers of one try; signed with each of the secrets, as a receiver may know either."""
    content = b".".join((id.encode(), str(timestamp_s).encode(), body))
    headers = {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp_s),
    }
    if secrets:
        headers["webhook-signature"] = " ".join(_sign(content, secret) for secret in secrets)
    return headers


def _sign(content: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}"
