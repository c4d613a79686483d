"""Signatures in the form of Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
SECRET_BYTES = 32


def new_webhook_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def build_signed_headers(
    id: str, timestamp_s: int, body: bytes, secrets: Sequence[str]
) -> dict[str, str]:
    """The headers of one try; signed with each of the secrets, as a receiver may know either."""
    headers = {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp_s),
    }
    if secrets:
        moment, text = datetime.fromtimestamp(timestamp_s, UTC), body.decode()
        signatures = [Webhook(secret).sign(id, moment, text) for secret in secrets]
        headers["webhook-signature"] = " ".join(signatures)
    return headers
