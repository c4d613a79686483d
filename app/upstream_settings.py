"""The provider's key and base URL as people paste them: cleaned where the meaning is certain, else
refused with a reason. No sentence quotes a key.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

QUOTE_CHARS = "\"'`\u2018\u2019\u201c\u201d"
PASTED_BLANKS = " \t\r\n\u00a0\u200b\ufeff"
BEARER_PREFIX = re.compile(r"(?:authorization:[ \t]*+)?bearer[ \t]++", re.IGNORECASE)
ENDPOINT_SUFFIX = re.compile(
    r"/(?:images/(?:generations|edits)|chat/completions|responses|models|tasks)/?$", re.IGNORECASE
)


def clean_key(text: str) -> str:
    """The key without blanks, quotes or `Bearer` that were pasted with it."""
    while True:
        key = text.strip(PASTED_BLANKS)
        if len(key) > 1 and key[0] in QUOTE_CHARS and key[-1] in QUOTE_CHARS:
            key = key[1:-1]
        key = BEARER_PREFIX.sub("", key, count=1) if BEARER_PREFIX.match(key) else key
        if key == text:
            return key
        text = key


def check_key_characters(name: str, key: str) -> Iterator[str]:
    """Why a cleaned key cannot be sent in an HTTP header."""
    if "\n" in key or "\r" in key:
        yield f"{name} has a line break inside; put the key alone on one line."
    elif not key.isascii():
        yield (
            f"{name} has characters outside ASCII, perhaps a look-alike letter or the dots of a "
            "shortened display; copy the key again where the provider shows it in full."
        )
    elif any(not " " < mark < "\x7f" for mark in key):
        yield f"{name} has a blank or control character inside; copy the key again."


def clean_base_url(url: str) -> str:
    """The API's root: an endpoint's path is removed, and `/v1` added when there is no path."""
    try:
        parts = urlsplit(url.strip(PASTED_BLANKS).strip(QUOTE_CHARS))
    except ValueError:
        return url
    path = ENDPOINT_SUFFIX.sub("", parts.path).rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, parts.fragment))


def check_base_url(name: str, url: str, *, key_name: str = "KOI_UPSTREAM_API_KEY") -> Iterator[str]:
    """What a cleaned base URL must not have."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.query or parts.fragment:
        yield f"{name} ends in a query or fragment; give the API's root, https://example.com/v1."
    if "@" in parts.netloc:
        yield f"{name} holds a name or password; the key belongs in {key_name}."
