"""Where a URL that others chose may lead: the guard against server-side request forgery."""

import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network

from app.adapters.http.urls import HttpUrl, ip_literal, parse_url
from app.domain.media import FetchRefused

MAX_URL_BYTES = 8 * 1024

HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.IGNORECASE | re.ASCII
)
NUMERIC_HOST = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)", re.IGNORECASE | re.ASCII)
USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE | re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")

GLOBAL_UNICAST_V6 = ip_network("2000::/3")
NAT64 = ip_network("64:ff9b::/96")
# `is_global` is true for these, but no host of images is there: IETF protocol assignments,
# 6to4 relays, 6to4, the newer documentation prefix, Azure's host agent.
BLOCKED_NETWORKS = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20", "168.63.129.16/32"),
    )
)


BLOCKED_PORTS = frozenset(
    {
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
        102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389,
        427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636,
        989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665,
        6666, 6667, 6668, 6669, 6679, 6697, 10080,
    }
)  # fmt: skip
"""Ports that browsers refuse (WHATWG Fetch, "bad port"): on these, a mail server or the like could
take a request for commands of its own protocol."""


def is_public_address(text: str) -> bool:
    """True for an address of the open internet (IANA special-purpose registries).

    IPv4-mapped and NAT64 addresses count as the IPv4 address they carry.
    """
    ip = ip_address(text)
    if ip.version == 6:
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in GLOBAL_UNICAST_V6:
            return False
    special = (
        ip.is_multicast or ip.is_reserved or any(ip in network for network in BLOCKED_NETWORKS)
    )
    return ip.is_global and not special


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Which addresses count as public, and which certificate authorities are believed.

    `tls` None is the public authorities.
    """

    is_public: Callable[[str], bool] = is_public_address
    tls: ssl.SSLContext | None = None


class EgressGuard:
    """Admits https links to public addresses, and links to trusted hosts at any address."""

    def __init__(self, trusted: Iterable[str], egress: EgressPolicy) -> None:
        """`trusted` are URLs such as `http://127.0.0.1:9000/v1`: their hosts are trusted on every
        port, over http only where the URL itself has http (decision 9)."""
        origins = [_parse_link(url).origin for url in trusted]
        self._trusted = frozenset(origin.host for origin in origins)
        self._http_hosts = frozenset(o.host for o in origins if not o.is_tls)
        self._egress = egress

    def trusts(self, link: str) -> bool:
        """Whether a link leads to a trusted host."""
        return _parse_link(link).origin.host in self._trusted

    def check_link(self, link: str, *, plain: bool = False) -> HttpUrl:
        """The parsed link, in the form in which the client uses it. Raises `FetchRefused`.

        With `plain`, http is allowed for every host.
        """
        url = _parse_link(link)
        host = url.origin.host
        if not url.origin.is_tls and not (plain or host in self._http_hosts):
            raise FetchRefused("the link is not https")
        if url.origin.port in BLOCKED_PORTS:
            raise FetchRefused("the link names a port that is not for HTTP")
        if host in self._trusted:
            return url
        self._check_host(host)
        return url

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Raises `FetchRefused` if any address is private: one among many may be an attack."""
        if host in self._trusted:
            return
        if not all(self._egress.is_public(address) for address in addresses):
            raise FetchRefused("the link leads to an address that is not public")

    def _check_host(self, host: str) -> None:
        literal = ip_literal(host)
        if literal is not None:
            if not self._egress.is_public(literal):
                raise FetchRefused("the link leads to an address that is not public")
        elif NUMERIC_HOST.fullmatch(host) or not HOST_NAME.fullmatch(host):
            raise FetchRefused("the link names no valid host")


def _parse_link(link: str) -> HttpUrl:
    if len(link.encode(errors="surrogatepass")) > MAX_URL_BYTES:
        raise FetchRefused("the link is longer than 8 KiB")
    if CONTROL.search(link):
        raise FetchRefused("the link holds control characters")
    if USER_INFO.match(link):
        raise FetchRefused("the link carries credentials")
    try:
        return parse_url(link)
    except ValueError:
        raise FetchRefused("the link is no valid http URL") from None
