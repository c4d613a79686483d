"""Settings of the page at `/` and of what holders of keys may do there."""

from collections.abc import Iterator

from app.domain.holders import KeyManagement
from app.oidc_settings import OidcSettings, check_oidc_settings


class PageSettings(OidcSettings):
    console: bool = True
    docs: bool = True
    holders_manage_keys: KeyManagement = KeyManagement.ROTATE


def check_page_settings(settings: PageSettings, public_url: str | None) -> Iterator[str]:
    yield from check_oidc_settings(settings, public_url)
    if settings.oidc_issuer is not None and not settings.console:
        yield "KOI_OIDC_ISSUER needs the page: KOI_CONSOLE=off takes it away."
