"""ID tokens: whether one is the provider's, for this client, for this sign-in, and still valid."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from app.domain.sign_in import SignInRefused

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a private key only: with `none` or HMAC whoever knows the public key could sign."""
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}
Key = RSAKey | ECKey


class SigningKeyUnknown(Exception):
    """The token names a key that this set does not have."""


def read_keys(document: Mapping[str, Any]) -> KeySet:
    """The signing keys of a JWKS. What is none, or cannot be read, is left out. Raises `ValueError`
    for a document that is no JWKS."""
    rows = document.get("keys")
    if not isinstance(rows, list):
        raise ValueError("no keys")  # noqa: TRY004 - the content is wrong, not our call
    found: list[Any] = [
        key for row in rows if isinstance(row, dict) and (key := _read_key(row)) is not None
    ]
    return KeySet(found)


def _read_key(row: Mapping[str, Any]) -> Key | None:
    if row.get("use", "sig") != "sig":
        return None
    kinds: Mapping[Any, Any] = {"RSA": RSAKey, "EC": ECKey}
    kind = kinds.get(row.get("kty"))
    try:
        key: Key | None = None if kind is None else kind.import_key(dict(row))
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key


class TokenVerifier:
    """`now` is Unix seconds."""

    def __init__(self, issuer: str, client_id: str, now: Callable[[], float] = time.time) -> None:
        self._issuer, self._client_id, self._now = issuer, client_id, now

    def verify(self, token: str, keys: KeySet, nonce: str) -> Mapping[str, Any]:
        """The claims of a token that passes every check (OpenID Connect Core 3.1.3.7). Raises
        `SigningKeyUnknown`, and `SignInRefused` for one that does not."""
        claims = _read_claims(token, keys)
        self._check(claims, nonce)
        return claims

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        if claims.get("iss") != self._issuer:
            raise SignInRefused("rejected", "another issuer")
        audience = claims.get("aud")
        several = isinstance(audience, list) and len(audience) > 1
        if self._client_id not in (audience if isinstance(audience, list) else [audience]):
            raise SignInRefused("rejected", "another audience")
        party = claims.get("azp")
        if (party is not None or several) and party != self._client_id:
            raise SignInRefused("rejected", "another authorized party")
        if claims.get("nonce") != nonce:
            raise SignInRefused("rejected", "another nonce")
        self._check_time(claims)

    def _check_time(self, claims: Mapping[str, Any]) -> None:
        times: list[Any] = [claims.get("exp"), claims.get("nbf", 0), claims.get("iat")]
        if not all(map(_is_time, times)):
            raise SignInRefused("rejected", "a time is missing")
        ends, begins, _ = times
        if self._now() >= ends:
            raise SignInRefused("rejected", "the token has expired")
        if self._now() < begins:
            raise SignInRefused("rejected", "the token is not valid yet")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_claims(token: str, keys: KeySet) -> Mapping[str, Any]:
    """The claims of a token that one of these keys signed."""
    try:
        header = jws.extract_compact(token.encode()).headers()
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise SignInRefused("rejected", "an algorithm that is not accepted")
        key = _find_key(keys, header.get("kid"), KEY_TYPES[algorithm[:2]])
        content = jws.deserialize_compact(token, key, algorithms=list(ALGORITHMS)).payload
        claims = orjson.loads(content)
    except (JoseError, ValueError, TypeError) as error:
        raise SignInRefused("rejected", f"no valid signature: {type(error).__name__}") from None
    if not isinstance(claims, dict):
        raise SignInRefused("rejected", "no claims")
    return claims


def _find_key(keys: KeySet, kid: Any, kind: str) -> Key:
    """The key that the header names; without a name the only one of its kind."""
    fitting: list[Any] = [key for key in keys.keys if key.key_type == kind]
    if kid is not None:
        fitting = [key for key in fitting if key.kid == kid]
    if len(fitting) != 1:
        raise SigningKeyUnknown
    found: Key = fitting[0]
    return found
