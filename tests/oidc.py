"""An OpenID provider on loopback: it signs in whoever comes as `claims` say, with real keys."""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.ports import free_port

CLIENT_ID, CLIENT_SECRET = "koi", "a client's secret: with +, % and ü"
Claims = dict[str, Any]


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class SigningKey:
    def __init__(self, kid: str) -> None:
        self.kid, self._private = kid, rsa.generate_private_key(65537, 2048)

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self._private.public_key().public_numbers()
        n, e = (encode(x.to_bytes((x.bit_length() + 7) // 8)) for x in (numbers.n, numbers.e))
        return {"kty": "RSA", "use": "sig", "kid": self.kid, "n": n, "e": e}

    @property
    def public_pem(self) -> bytes:
        kind = PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(Encoding.PEM, kind)

    def sign(self, claims: Claims, **header: Any) -> str:
        text = signing_input(claims, alg="RS256", kid=self.kid, **header)
        signature = self._private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{encode(signature)}"


def signing_input(claims: Claims, **header: Any) -> str:
    return ".".join(encode(json.dumps(part).encode()) for part in (header, claims))


def sign_with_secret(claims: Claims, secret: bytes, **header: Any) -> str:
    text = signing_input(claims, alg="HS256", **header)
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(text.encode())
    return f"{text}.{encode(mac.finalize())}"


@dataclass
class Provider:
    """`claims` are whose sign-in is next, `sign` how its token is made of all claims. `codes` are
    those that can be redeemed, each with its authorization request."""

    url: str
    claims: Claims = field(default_factory=dict)
    key: SigningKey = field(default_factory=lambda: SigningKey("first"))
    sign: Callable[[Claims], str] | None = None
    discovery: Claims = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    token_requests: int = 0
    key_requests: int = 0

    def reset(self, **claims: Any) -> None:
        self.claims = {"sub": "subject-1", "email_verified": True, **claims}
        self.sign, self.discovery = None, {}

    def discover(self) -> Claims:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            **self.discovery,
        }

    def authorize(self, query: dict[str, str]) -> str:
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.url})
        return f"{query['redirect_uri']}?{back}"

    def redeem(self, form: dict[str, str], authorization: str) -> Claims | None:
        """None for a code that was used, is another's, or comes without its proof."""
        self.token_requests += 1
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if [unquote_plus(part) for part in pair.split(":")] != [CLIENT_ID, CLIENT_SECRET]:
            return None
        begun = self.codes.pop(form["code"], None)
        challenge = encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if begun is None or begun["code_challenge"] != challenge:
            return None
        if begun["redirect_uri"] != form["redirect_uri"]:
            return None
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        claims |= {"nonce": begun["nonce"], **self.claims}
        token = self.key.sign(claims) if self.sign is None else self.sign(claims)
        return {"access_token": "unused", "token_type": "Bearer", "id_token": token}


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/authorize":
            given = {name: values[0] for name, values in parse_qs(query).items()}
            self._answer(302, {}, self.provider.authorize(given))
        elif path == "/keys":
            self.provider.key_requests += 1
            self._answer(200, {"keys": [{"kty": "oct", "k": "eA"}, self.provider.key.jwk]})
        elif path == "/.well-known/openid-configuration":
            self._answer(200, self.provider.discover())
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        found = self.provider.redeem(form, self.headers["authorization"])
        self._answer(*((400, {"error": "invalid_grant"}) if found is None else (200, found)))

    def _answer(self, status: int, content: Claims, location: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if location is not None:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def open_provider() -> Iterator[Provider]:
    handler = type("Bound", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
        handler.provider = provider  # type: ignore[attr-defined]
        provider.reset()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield provider
        server.shutdown()


def settings_for(provider: Provider, **overrides: Any) -> dict[str, Any]:
    """A gateway's settings, with a port that its public address can name."""
    port = free_port()
    return {
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "oidc_issuer": provider.url,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_roles": "groups:ops=operator,groups:auditors=operator/read,groups:designers=member,"
        "groups:leads=team_admin",
        "oidc_create": True,
        **overrides,
    }
