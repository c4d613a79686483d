"""http and https URLs, read once: what was checked is what is connected to and asked for."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import idna

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535

URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\[\]/?#@]*\]|[^\[\]/?#@:]+)(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
UNSENDABLE = re.compile(r"[^\x21-\x7e]+")
"""What a request target cannot hold unencoded."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect. `host` is lower case and ASCII; an IPv6 address has no brackets."""

    scheme: str
    host: str
    port: int

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """An origin and the request target: path and query as they are sent, without fragment."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin.scheme}://{self.origin.authority}{self.target}"


def parse_url(text: str) -> HttpUrl:
    """Read an absolute URL. What is ASCII stays as it is, byte by byte: encoding it again could
    break a signature. The rest is percent-encoded, in a host by IDNA.

    Raises `ValueError` for anything else, and for a name or password in the URL.
    """
    match = URL.fullmatch(text)
    if match is None:
        raise ValueError("no absolute http or https URL")
    scheme = match["scheme"].lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    if port > MAX_PORT:
        raise ValueError("no such port")
    target = f"{match['path'] or '/'}{match['query'] or ''}"
    # Asked without the pattern first: a signed link is long.
    if not (target.isascii() and target.isprintable()) or " " in target:
        target = UNSENDABLE.sub(_percent_encode, target)
    return HttpUrl(_origin(scheme, match["host"], port), target)


@lru_cache(maxsize=256)
def _origin(scheme: str, host: str, port: int) -> Origin:
    if host.startswith("["):
        return Origin(scheme, str(IPv6Address(host[1:-1])), port)
    if not host.isascii():
        # UTS 46 maps look-alike digits and dots to ASCII, so that they are judged as such.
        return Origin(scheme, idna.encode(host, uts46=True).decode("ascii").lower(), port)
    return Origin(scheme, host.lower(), port)


def _percent_encode(odd: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in odd[0].encode(errors="surrogateescape"))


@lru_cache(maxsize=256)
def ip_literal(host: str) -> str | None:
    """The address if the host is one, in its usual form; None for names."""
    if "%" in host:
        return None
    try:
        return str(ip_address(host))
    except ValueError:
        return None
