"""Settings of what requests say about for whom and for what they are."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from app.domain.attribution import MAX_COUNTED

MIN_SECRET_BYTES = 32
"""Of a secret for HS256 (RFC 7518, section 3.2)."""


class AttributionSettings(BaseSettings):
    end_users: bool = True
    attributed_values: int = Field(MAX_COUNTED, ge=0, le=100_000)
    openwebui_jwt_secret: SecretStr | None = None
    openwebui_user: Literal["id", "email"] = "id"


def check_attribution_settings(settings: AttributionSettings) -> Iterator[str]:
    secret = settings.openwebui_jwt_secret
    if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        yield (
            "KOI_OPENWEBUI_JWT_SECRET must have at least 32 characters, and be what Open WebUI has "
            "as FORWARD_USER_INFO_HEADER_JWT_SECRET, for example: openssl rand -hex 32."
        )
