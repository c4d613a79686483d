"""Removes prompts, keys and signed links from everything that is logged."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

SECRET_NAMES = frozenset(
    {
        "api_key",
        "admin_key",
        "authorization",
        "b64_json",
        "body",
        "cookie",
        "credentials",
        "headers",
        "metrics_token",
        "password",
        "prompt",
        "proxy_authorization",
        "revised_prompt",
        "secret",
        "set_cookie",
        "sig",
        "signature",
        "token",
        "upstream_api_key",
        "x_api_key",
    }
)
MASK = "***"
SECRET_PATTERNS = re.compile(
    r"""
      (?P<bearer>\bbearer\s+)\S+
    | (?P<link>\b(?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token)=)
      [^&\s"'<>]+
    | (?P<login>://)[^/\s@"']+@
    | (?P<sk>\bsk-)[A-Za-z0-9_-]{6,}
    | (?P<koi>\bkoi[-_])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}
    """,
    re.IGNORECASE | re.VERBOSE,
)
PLAIN_TYPES: frozenset[type] = frozenset({str, int, float, bool, type(None)})
MAX_DEPTH = 6
INT64_LIMIT = 1 << 63


def redact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as plain JSON, without those that have secret names, and with keys and links
    masked in every string."""
    return _redact_mapping(fields, 0)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    return name.lower().replace("-", "_") in SECRET_NAMES


def is_harmless(fields: Mapping[str, Any], line: str) -> bool:
    """Whether `redact` would change nothing of these fields, whose JSON is `line`. False where that
    takes a closer look: an escape in JSON may hide where a word begins."""
    if "\\" in line or _has_secret_name(tuple(fields)):
        return False
    kinds = set(map(type, fields.values()))
    if not kinds <= PLAIN_TYPES and not all(_is_plain(kind) for kind in kinds):
        return False
    return not _has_secret_mark(line.lower()) or not SECRET_PATTERNS.search(line)


@lru_cache(maxsize=256)
def _has_secret_name(names: tuple[str, ...]) -> bool:
    return any(map(is_secret_name, names))


def _is_plain(kind: type) -> bool:
    """Text or a number, or an enumeration of them, whose members are plain in JSON."""
    return any(issubclass(kind, plain) for plain in PLAIN_TYPES)


def _has_secret_mark(lower: str) -> bool:
    """Every text that `SECRET_PATTERNS` matches holds one of these, in any case of its letters."""
    return "bearer" in lower or "=" in lower or "@" in lower or "sk-" in lower or "koi" in lower


def _redact_mapping(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    named = ((str(name), value) for name, value in fields.items())
    return {name: _redact_value(value, depth) for name, value in named if not is_secret_name(name)}


def _redact_value(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -INT64_LIMIT <= value < INT64_LIMIT else str(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return _redact_mapping(value, depth + 1)
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(inner, depth + 1) for inner in value]
    return mask(str(value))


def mask(text: str) -> str:
    """The text with the secret part of keys, tokens, logins and signed links replaced."""
    return SECRET_PATTERNS.sub(_mask_match, text)


def _mask_match(match: re.Match[str]) -> str:
    kept = match.group(match.lastgroup or 0)
    return f"{kept}{MASK}@" if match.lastgroup == "login" else f"{kept}{MASK}"
