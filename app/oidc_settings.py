"""Settings of sign-in by an OpenID provider (extra `sso`)."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from app.address_settings import check_http_url
from app.domain.sign_in import EXAMPLE, RolesInvalid, parse_roles
from app.settings_validation import check_readable


class OidcSettings(BaseSettings):
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_client_secret_file: Path | None = None
    oidc_roles: str = ""
    oidc_user: Literal["email", "sub"] = "email"
    oidc_create: bool = False
    oidc_scopes: str = "openid email profile"

    @property
    def oidc_secret(self) -> str:
        """From the variable or the file; empty when neither is set."""
        if self.oidc_client_secret is not None:
            return self.oidc_client_secret.get_secret_value().strip()
        if self.oidc_client_secret_file is not None:
            return self.oidc_client_secret_file.read_text(encoding="utf-8").strip()
        return ""

    @property
    def oidc_terms(self) -> str:
        """Stands for everything by which people were let in."""
        parts = (self.oidc_issuer, self.oidc_client_id, self.oidc_roles, self.oidc_user)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def check_oidc_settings(settings: OidcSettings, public_url: str | None) -> Iterator[str]:
    """Nothing is asked of who does not set the issuer."""
    if settings.oidc_issuer is None:
        return
    if find_spec("joserfc") is None:
        yield "KOI_OIDC_ISSUER needs the extra sso: pip install '.[sso]' in Koi's checkout."
    issuer = settings.oidc_issuer
    unreadable = [*check_http_url("KOI_OIDC_ISSUER", issuer, "https://id.example.com")]
    yield from unreadable
    if not unreadable and (not is_trustworthy(issuer) or "?" in issuer):
        yield "KOI_OIDC_ISSUER must be the provider's https URL, as its discovery document says."
    if public_url is None or not is_trustworthy(public_url):
        yield (
            "KOI_OIDC_ISSUER needs KOI_PUBLIC_URL, an https URL: the provider sends people back "
            "there, to /v1/koi/oidc/callback."
        )
    yield from _check_client(settings)
    yield from _check_roles(settings)


def is_trustworthy(url: str) -> bool:
    """https, or http that never leaves this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")
    )


def _check_client(settings: OidcSettings) -> Iterator[str]:
    if not settings.oidc_client_id:
        yield "KOI_OIDC_ISSUER needs KOI_OIDC_CLIENT_ID, by which the provider knows this gateway."
    name = "KOI_OIDC_CLIENT_SECRET_FILE"
    unreadable = list(check_readable(name, settings.oidc_client_secret_file))
    yield from unreadable
    if not unreadable and not settings.oidc_secret:
        yield f"KOI_OIDC_ISSUER needs KOI_OIDC_CLIENT_SECRET (or {name})."
    if "openid" not in settings.oidc_scopes.split():
        yield "KOI_OIDC_SCOPES must have openid among them."


def _check_roles(settings: OidcSettings) -> Iterator[str]:
    try:
        if not parse_roles(settings.oidc_roles):
            yield f"KOI_OIDC_ISSUER needs KOI_OIDC_ROLES, such as {EXAMPLE}; nobody else may enter."
    except RolesInvalid as error:
        yield f"KOI_OIDC_ROLES {error}"
