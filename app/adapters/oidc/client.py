"""An OpenID provider over HTTP: discovery, keys, and what a code stands for."""

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson
from joserfc.jwk import KeySet

from app.adapters.http.client import HttpClient, HttpTimeouts
from app.adapters.http.connecting import CachingResolver
from app.adapters.http.errors import HttpError
from app.adapters.http.messages import HttpRequest, SentHeaders
from app.adapters.http.send_state import SendState
from app.adapters.http.tls import public_tls_context
from app.adapters.http.urls import HttpUrl, parse_url
from app.adapters.oidc.tokens import SigningKeyUnknown, TokenVerifier, read_keys
from app.domain.sign_in import LoginSecrets, SignInRefused

TIMEOUT_S = 10.0
KEPT_S = 3600.0
"""How long discovery and keys are kept."""
RENEW_S = 30.0
"""How often an unknown key makes us ask for the keys anew."""
MAX_BYTES = 1 << 20
CONNECTIONS = 8
ACCEPT = ("Accept", "application/json")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class OidcClientSettings:
    """`issuer` is compared exactly. `scopes` as they are asked for, between blanks."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the provider says of itself (OpenID Connect Discovery, section 3)."""

    authorization: str
    token: HttpUrl
    keys: HttpUrl
    posts_secret: bool
    """Whether the secret goes into the body: only where Basic is not offered."""


class OidcProvider:
    """`app.domain.sign_in.IdentityProvider` says what each method does."""

    def __init__(self, settings: OidcClientSettings) -> None:
        self._settings = settings
        self._verifier = TokenVerifier(settings.issuer, settings.client_id)
        self._client = HttpClient(
            CONNECTIONS,
            keepalive_s=15.0,
            resolve=CachingResolver(),
            tls=public_tls_context,
            timeouts=HttpTimeouts(TIMEOUT_S, TIMEOUT_S, TIMEOUT_S),
        )
        self._discovered: tuple[float, Discovered] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._renewed_s = float("-inf")
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        await self._client.close()

    async def authorization_url(self, login: LoginSecrets, redirect_uri: str) -> str:
        """See the port."""
        endpoint = (await self._discover()).authorization
        digest = hashlib.sha256(login.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.scopes,
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def redeem(self, code: str, login: LoginSecrets, redirect_uri: str) -> Mapping[str, Any]:
        """See the port."""
        found = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": login.verifier,
        }
        answer = await self._ask("POST", found.token, *self._authenticate(found, form))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused("rejected", "no ID token")
        try:
            return self._verifier.verify(token, await self._get_keys(), login.nonce)
        except SigningKeyUnknown:
            pass
        try:
            return self._verifier.verify(token, await self._get_keys(renew=True), login.nonce)
        except SigningKeyUnknown:
            raise SignInRefused("rejected", "signed with an unknown key") from None

    def _authenticate(self, found: Discovered, form: dict[str, str]) -> tuple[SentHeaders, bytes]:
        """RFC 6749, section 2.3.1."""
        id, secret = self._settings.client_id, self._settings.client_secret
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        if found.posts_secret:
            form |= {"client_id": id, "client_secret": secret}
            return SentHeaders(ACCEPT, kind), urlencode(form).encode()
        pair = base64.b64encode(f"{quote_plus(id)}:{quote_plus(secret)}".encode()).decode()
        return SentHeaders(ACCEPT, kind, ("Authorization", f"Basic {pair}")), urlencode(
            form
        ).encode()

    async def _discover(self) -> Discovered:
        async with self._lock:
            if self._discovered is None or time.monotonic() - self._discovered[0] > KEPT_S:
                base = self._settings.issuer.rstrip("/")
                url = self._read_url(f"{base}/.well-known/openid-configuration")
                document = await self._ask("GET", url)
                self._discovered = time.monotonic(), self._read_discovery(document)
            return self._discovered[1]

    async def _get_keys(self, *, renew: bool = False) -> KeySet:
        """The kept ones; `renew` asks anew, at most once in `RENEW_S`."""
        found = await self._discover()
        async with self._lock:
            now_s = time.monotonic()
            if renew and now_s - self._renewed_s >= RENEW_S:
                self._renewed_s, self._keys = now_s, None
            if self._keys is None or now_s - self._keys[0] > KEPT_S:
                document = await self._ask("GET", found.keys)
                try:
                    self._keys = time.monotonic(), read_keys(document)
                except ValueError:
                    raise SignInRefused("unavailable", "no keys at jwks_uri") from None
            return self._keys[1]

    def _read_discovery(self, document: Mapping[str, Any]) -> Discovered:
        if document.get("issuer") != self._settings.issuer:
            raise SignInRefused("unavailable", "the discovery document names another issuer")
        methods = document.get("token_endpoint_auth_methods_supported")
        basic = not isinstance(methods, list) or "client_secret_basic" in methods
        return Discovered(
            authorization=str(self._read_url(document.get("authorization_endpoint"))),
            token=self._read_url(document.get("token_endpoint")),
            keys=self._read_url(document.get("jwks_uri")),
            posts_secret=not basic,
        )

    def _read_url(self, text: Any) -> HttpUrl:
        """https, or this machine where the issuer is on it too."""
        try:
            url = parse_url(text if isinstance(text, str) else "")
        except ValueError:
            raise SignInRefused("unavailable", "a URL of the discovery document is none") from None
        here = url.origin.host in LOOPBACK and self._settings.issuer.startswith("http:")
        if not url.origin.is_tls and not here:
            raise SignInRefused("unavailable", "a URL of the discovery document is not https")
        return url

    async def _ask(
        self, method: str, url: HttpUrl, headers: SentHeaders | None = None, body: bytes = b""
    ) -> Mapping[str, Any]:
        """The JSON object of an answer. A refused code is `rejected`, the rest `unavailable`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, content = await self._exchange(
                    HttpRequest(method, url, headers or SentHeaders(ACCEPT), body)
                )
        except (HttpError, TimeoutError) as error:
            raise SignInRefused("unavailable", type(error).__name__) from None
        if status in (400, 401, 403) and method == "POST":
            raise SignInRefused("rejected", f"the provider answered {status} for the code")
        return _read_object(status, content)

    async def _exchange(self, request: HttpRequest) -> tuple[int, bytes]:
        content = b""
        async with await self._client.send(request, SendState()) as response:
            while piece := await response.read():
                content += piece
                if len(content) > MAX_BYTES:
                    raise SignInRefused("unavailable", "an answer that is too long")
        return response.status, content


def _read_object(status: int, content: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(content) if status == 200 else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise SignInRefused("unavailable", f"no JSON object, status {status}")
    return document
