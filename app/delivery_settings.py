"""Settings of webhooks to users and of notices to the operator."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from app.address_settings import check_address, check_http_url

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with (Standard Webhooks)
MIN_SECRET_BYTES = 24
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)


class DeliverySettings(BaseSettings):
    webhook_hosts: str = ""
    webhook_timeout_s: float = Field(10, gt=0)
    webhook_retry_s: float = Field(5, gt=0)
    webhook_lifetime_s: float = Field(86_400, gt=0)
    notice_webhook: SecretStr | None = None
    notice_webhook_secret: SecretStr | None = None
    notice_interval_s: float = Field(60, gt=0)
    notice_disk_mb: int = Field(1024, ge=0)
    notice_form: Literal["auto", "standard", "slack", "feishu"] = "auto"

    @property
    def notice_url(self) -> str | None:
        """It may hold a secret: Slack and Feishu have it in the path."""
        return None if self.notice_webhook is None else self.notice_webhook.get_secret_value()

    @property
    def notice_secret(self) -> str | None:
        secret = self.notice_webhook_secret
        return None if secret is None else secret.get_secret_value()


def check_delivery_settings(settings: DeliverySettings) -> Iterator[str]:
    for host in filter(None, map(str.strip, settings.webhook_hosts.split(","))):
        if HOST.fullmatch(host) is None or not all(check_address(host)):
            yield "KOI_WEBHOOK_HOSTS must be host names or addresses, such as hooks.lan,10.0.0.7."
    url, secret = settings.notice_url, settings.notice_secret
    faults = [*check_http_url("KOI_NOTICE_WEBHOOK", url, "https://hooks.slack.com/services/…")]
    yield from faults
    if url is not None and not faults and "@" in urlsplit(url).netloc:
        yield "KOI_NOTICE_WEBHOOK holds a name or password, which is not sent; remove it."
    if secret is not None and not _is_secret(secret):
        yield (
            "KOI_NOTICE_WEBHOOK_SECRET must be whsec_ and the base64 of at least "
            f"{MIN_SECRET_BYTES} random bytes, for example: echo whsec_$(openssl rand -base64 32)."
        )


def _is_secret(text: str) -> bool:
    try:
        raw = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        return False
    return text.startswith(SECRET_PREFIX) and len(raw) >= MIN_SECRET_BYTES
