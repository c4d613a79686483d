"""Checks of settings that are addresses: URLs of servers and of stores, proxies, origins.

A URL may hold a password, so no sentence quotes one. The store's client is not asked: importing it
would slow down every command.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from math import inf
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from app.settings import Settings

MAX_PORT = 65_535
ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|[^\s\[\]:@/?#,]+)(?::(.*))?", re.DOTALL)
"""A host, with an IPv6 address in brackets, and a port."""
PORT = re.compile(r"[0-9]{1,5}")
STORE_URL = re.compile(
    r"(rediss?|unix|rediss?\+(?:cluster|sentinel))://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL
)
STORE_PATHS = {
    "redis": re.compile(r"(/[0-9]*)?"),
    "unix": re.compile(r"/.*", re.DOTALL),
    "cluster": re.compile(r".*", re.DOTALL),
    "sentinel": re.compile(r"/[^/]+(/[0-9]*)?"),
}
ORIGIN = re.compile(r"\*|null|file://|[A-Za-z][A-Za-z0-9+.-]*://([^/?#\s*]+)")

STORE_FORMS = (
    "must be a URL of Redis or Valkey, such as redis://localhost:6379/0; rediss, unix, "
    "redis+cluster and redis+sentinel (…/service) are known too"
)
PORT_FAULT = f"has a port that is no number from 1 to {MAX_PORT}; correct the port"
STORE_PORT_FAULT = f"{PORT_FAULT}, as in redis://localhost:6379/0"
UNENCODED = (
    "has one of # / ? @ [ ] in its user or password, or a # elsewhere; percent-encode the password "
    "(# is %23, / is %2F, ? is %3F, @ is %40)"
)
OPTIONS_FAULT = "has options behind ?, which a URL of a cluster or of Sentinel does not take"

OptionReader = Callable[[str], object]
"""Raises `ValueError` or `LookupError` for a text that is no value of the option."""


def check_address_settings(settings: "Settings") -> Iterator[str]:
    """Those that belong to no room of their own."""
    yield from check_http_url("KOI_PUBLIC_URL", settings.public_url)
    yield from check_store_url("KOI_REDIS_URL", settings.redis_url)
    yield from check_store_url("KOI_CACHE_REDIS_URL", settings.cache_redis_url)
    yield from check_trusted_proxies("KOI_TRUSTED_PROXIES", settings.trusted_proxies)
    yield from check_origins("KOI_CORS_ORIGINS", settings.cors_origins)
    if "://" in settings.image_store:
        yield from check_http_url("KOI_S3_ENDPOINT", settings.s3_endpoint)


def check_http_url(
    name: str, url: str | None, example: str = "https://example.com/v1"
) -> Iterator[str]:
    """What the clients of HTTP could not use."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    has_host, has_port = check_address(parts.netloc.rpartition("@")[2])
    is_clean = url.isprintable() and url == url.strip() and _is_name(host)
    if parts.scheme not in ("http", "https") or not has_host or not is_clean:
        yield f"{name} must be an http(s) URL such as {example}."
    elif not has_port:
        yield f"{name} {PORT_FAULT}."


def check_address(address: str) -> tuple[bool, bool]:
    """Whether `host[:port]` has a host and, if any, a port that there may be."""
    match = ADDRESS.fullmatch(address)
    if match is None:
        return False, False
    bracketed, port = match.groups()
    try:
        if bracketed:
            IPv6Address(bracketed)
    except ValueError:
        return False, False
    return True, not port or (PORT.fullmatch(port) is not None and 1 <= int(port) <= MAX_PORT)


def _is_name(host: str) -> bool:
    """Whether a host outside ASCII can be looked up."""
    if host.isascii():
        return True
    import idna  # noqa: PLC0415 - few need it

    try:
        idna.encode(host, uts46=True)
    except UnicodeError:
        return False
    return True


def check_store_url(name: str, url: str | None) -> Iterator[str]:
    if url is None:
        return
    match = STORE_URL.fullmatch(url) if url.isprintable() else None
    fault = STORE_FORMS if match is None else _find_store_fault(*match.groups(""))
    if fault is not None:
        yield f"{name} {fault}."


def _find_store_fault(
    scheme: str, authority: str, path: str, query: str, fragment: str
) -> str | None:
    """What is special in a password ends the part of the URL that it stands in: the beginning is
    taken for a port, and the rest of it, with the @, for a path or an option."""
    kind = scheme.partition("+")[2] or scheme.replace("rediss", "redis")
    user, _, hosts = authority.rpartition("@")
    astray = kind != "unix" and "@" in path
    if fragment or astray or (kind == "redis" and "@" in user) or not _can_be_split(authority):
        return UNENCODED
    fault = None if kind == "unix" else _find_host_fault(hosts, several=kind != "redis")
    if fault is None and not STORE_PATHS[kind].fullmatch(path):
        fault = STORE_FORMS
    fault = fault or _find_option_fault(scheme, query.removeprefix("?"))
    return UNENCODED if fault and "@" in query else fault


def _find_host_fault(hosts: str, *, several: bool) -> str | None:
    for has_host, has_port in map(check_address, hosts.split(",") if several else [hosts]):
        if not has_host or not has_port:
            return STORE_PORT_FAULT if has_host else STORE_FORMS
    return None


def _can_be_split(authority: str) -> bool:
    """Python refuses some brackets, and letters that stand for one of the special characters."""
    try:
        urlsplit(f"//{authority}")
    except ValueError:
        return False
    return True


def _one_of(*texts: str) -> OptionReader:
    return texts.index


def _read_count(text: str) -> int:
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


def _read_timeout(text: str) -> None:
    if not 0 < float(text) < inf:
        raise ValueError(text)


def _read_size(text: str) -> None:
    if int(text) < 1:
        raise ValueError(text)


def _read_encoding(text: str) -> None:
    """Commands are written in it."""
    if "a".encode(text) != b"a":
        raise ValueError(text)


def _read_client_name(text: str) -> None:
    if not text.isprintable() or " " in text:
        raise ValueError(text)


def _read_verify_flags(text: str) -> None:
    import ssl  # noqa: PLC0415 - few need it

    for flag in text.replace("[", "").replace("]", "").split(","):
        ssl.VerifyFlags[flag.strip()]


OPTIONS: Mapping[str, OptionReader] = {
    **dict.fromkeys(("username", "password"), str),
    **dict.fromkeys(("retry_on_timeout", "decode_responses", "legacy_responses"), str),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout", "timeout"), _read_timeout),
    **dict.fromkeys(("db", "health_check_interval"), _read_count),
    **dict.fromkeys(("max_connections", "socket_read_size"), _read_size),
    "client_name": _read_client_name,
    "protocol": _one_of("2", "3"),
    "encoding": _read_encoding,
    "encoding_errors": codecs.lookup_error,
}
"""Of a store's URL behind `?`, as redis-py takes them."""
TCP_OPTIONS: Mapping[str, OptionReader] = {"socket_keepalive": str}
TLS_OPTIONS: Mapping[str, OptionReader] = {
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "ssl_password"), str),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_ciphers"), str),
    **dict.fromkeys(("ssl_include_verify_flags", "ssl_exclude_verify_flags"), _read_verify_flags),
    "ssl_check_hostname": str,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_min_version": _one_of("769", "770", "771", "772"),
}
OPTIONS_BY_SCHEME: Mapping[str, Mapping[str, OptionReader]] = {
    "unix": OPTIONS,
    "redis": {**OPTIONS, **TCP_OPTIONS},
    "rediss": {**OPTIONS, **TCP_OPTIONS, **TLS_OPTIONS},
}


def _find_option_fault(scheme: str, query: str) -> str | None:
    known = OPTIONS_BY_SCHEME.get(scheme)
    for option, text in parse_qsl(query, keep_blank_values=True):
        if known is None:
            return OPTIONS_FAULT
        if option in TLS_OPTIONS and option not in known:
            return f"has the option {option}, which belongs to rediss://; write rediss://"
        if option not in known:
            return f"has an unknown option {option!r} behind ?; remove it, or correct its spelling"
        try:
            if text:  # without one, redis-py leaves the option out
                known[option](text)
        except (ValueError, LookupError):
            return f"has a value of {option} behind ? that cannot be used; correct or remove it"
    return None


def check_trusted_proxies(name: str, text: str) -> Iterator[str]:
    """uvicorn compares what is no address with the caller's, which is always one: a name is never
    believed, and a typing error would not be noticed."""
    if text.strip() == "*":
        return
    if not all(map(_is_proxy, _split(text))):
        yield (
            f"{name} must be addresses or networks such as 10.0.0.7,10.1.0.0/16 (a network ends in "
            "zeros; names are not looked up), or * alone for every caller."
        )


def _is_proxy(word: str) -> bool:
    try:
        (ip_network if "/" in word else ip_address)(word)
    except ValueError:
        return word.startswith("unix:")
    return True


def check_origins(name: str, text: str) -> Iterator[str]:
    """Browsers send an origin without a path: no other text is ever equal to it."""
    if not all(map(_is_origin, _split(text))):
        yield (
            f"{name} must be * or origins such as https://chat.example.com,http://localhost:3000, "
            "without a path or a slash at the end."
        )


def _is_origin(word: str) -> bool:
    match = ORIGIN.fullmatch(word)
    return match is not None and (match[1] is None or all(check_address(match[1])))


def _split(text: str) -> Iterable[str]:
    return filter(None, map(str.strip, text.split(",")))
