"""Sign-in by an OpenID provider, where one is configured."""

from contextlib import AsyncExitStack

from app.domain.ports import KeyRing
from app.domain.sign_in import IdentityProvider, parse_roles
from app.service.keys import KeyAdmin
from app.service.sessions import Sessions
from app.service.sign_in import SignIn, SignInTerms
from app.settings import Settings


def open_identity_provider(stack: AsyncExitStack, settings: Settings) -> IdentityProvider | None:
    """None where there is no issuer; what signs people in is imported only then."""
    if settings.oidc_issuer is None:
        return None
    from app.adapters.oidc.client import (  # noqa: PLC0415 - the extra may be missing
        OidcClientSettings,
        OidcProvider,
    )

    provider = OidcProvider(
        OidcClientSettings(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id or "",
            client_secret=settings.oidc_secret,
            scopes=settings.oidc_scopes,
        )
    )
    stack.push_async_callback(provider.close)
    return provider


def build_sign_in(
    provider: IdentityProvider | None,
    settings: Settings,
    keyring: KeyRing,
    keys: KeyAdmin,
    sessions: Sessions,
) -> SignIn | None:
    if provider is None:
        return None
    terms = SignInTerms(
        id=settings.oidc_terms,
        issuer=settings.oidc_issuer or "",
        cookie_secret=settings.oidc_secret.encode(),
        rules=parse_roles(settings.oidc_roles),
        claim=settings.oidc_user,
        creates=settings.oidc_create,
    )
    defaults = settings.house_limits, settings.cache_policy
    return SignIn(provider, terms, keyring, keys, sessions, defaults)
