"""Checks of settings. Each fault is one sentence that names the variable and says what to do.

No sentence quotes a value that may be secret. The types of modes, time zones, amounts and counts
are here too.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import ErrorDetails

from app.domain.limits import MAX_COUNT
from app.domain.money import parse_micros

if TYPE_CHECKING:
    from app.settings import Settings

ENV_PREFIX = "KOI_"
SAMPLE_SECRETS = frozenset(
    {"changeme", "change-me", "secret", "password", "your_api_key", "sk-1234"}
)
DEFAULT_PORT = 8000
MAX_WORKERS = 128
CENTURY_DAYS = 36_500
MAX_BY_UNIT = {"ms": 3_600_000, "s": CENTURY_DAYS * 86_400, "days": CENTURY_DAYS}
"""Of numbers whose name ends in a unit of time; of all others it is `MAX_COUNT`."""
KUBERNETES_LINK = re.compile(r"KOI_(?:SERVICE_(?:HOST|PORT)|PORT_\d+_(?:TCP|UDP))")


class SettingsInvalid(Exception):
    """Settings that cannot be used: one sentence each, never with a secret in it."""

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def check_key(
    name: str,
    secret: SecretStr | None,
    *,
    at_least: int,
    clean: Callable[[str], str] = str.strip,
) -> Iterator[str]:
    if secret is None:
        return
    value = clean(secret.get_secret_value())
    if len(value) >= at_least and value.lower() not in SAMPLE_SECRETS:
        return
    if at_least == 1:
        yield f"{name} is blank or a sample value; put the provider's real key there."
    else:
        yield (
            f"{name} is too short or a sample value; use at least {at_least} random characters, "
            "for example: openssl rand -hex 24."
        )


def check_readable(name: str, path: Path | None) -> Iterator[str]:
    if path is None:
        return
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        yield f"{name} names a file that cannot be read ({reason}); fix its path or permissions."


def check_upstream_scheme(
    url: str, *, allowed: bool, name: str = "KOI_UPSTREAM_BASE_URL"
) -> Iterator[str]:
    """Refuse http, which would send the upstream key unencrypted, except to this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    host = parts.hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")
    if parts.scheme == "http" and host and not here and not allowed:
        yield (
            f"{name} is plain http, which shows the upstream key to everybody on the "
            "way; use https, or set KOI_ALLOW_PLAIN_UPSTREAM=true if the network is yours alone."
        )


def check_sizes(settings: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Refuse what is most likely a slip of some zeros: neither a calendar nor the store's numbers
    hold it, and requests would fail for it later."""
    for name, value in settings:
        if isinstance(value, int | float) and not isinstance(value, bool):
            most = MAX_BY_UNIT.get(name.rpartition("_")[2], MAX_COUNT)
            if value > most:
                yield f"{ENV_PREFIX}{name.upper()} must be {most:,} or less."


def check_lifetimes(settings: "Settings") -> Iterator[str]:
    images_s = settings.image_ttl_days * 86_400
    if settings.cache_ttl_s > images_s:
        yield "KOI_CACHE_TTL_S must not outlive KOI_IMAGE_TTL_DAYS; lower the first."
    if settings.cache_ttl_s > settings.task_ttl_s:
        yield "KOI_CACHE_TTL_S must not outlive KOI_TASK_TTL_S; lower the first."
    if settings.task_ttl_s > images_s:
        yield "KOI_TASK_TTL_S must not outlive KOI_IMAGE_TTL_DAYS; lower the first."


_RULES = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be one of true or false",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "finite_number": "must be a finite number",
}


def sentences(detail: ErrorDetails, defaults: Mapping[str, Any]) -> Iterator[str]:
    """A finding of pydantic, in words for someone who edits variables and not Python."""
    kind, context = detail["type"], detail.get("ctx", {})
    if not detail["loc"]:
        yield from str(context.get("error", detail["msg"])).split("\n")
        return
    field = str(detail["loc"][0])
    name = ENV_PREFIX + field.upper()
    if kind == "value_error":
        yield f"{name}: {context.get('error', 'cannot be used')}."
        return
    rule = _RULES.get(kind) or _RULES.get(kind.partition("_")[0])
    rule = rule.format(**context).replace("'", "") if rule else f"cannot be used: {detail['msg']}"
    default = defaults.get(field)
    shown = str(default).lower() if isinstance(default, bool) else default
    example = f"for example {name}={shown}" if default is not None else "or remove it"
    yield f"{name} {rule}; {example}."


class UpstreamMode(StrEnum):
    AUTO = "auto"
    ASYNC = "async"
    SYNC = "sync"


def validate_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is not a time zone name such as Asia/Shanghai") from None
    return name


def validate_amount(text: str | None) -> str | None:
    if text is not None:
        parse_micros(text)
    return text


Amount = Annotated[str | None, AfterValidator(validate_amount)]
Count = Annotated[int | None, Field(ge=0)]
TimeZoneName = Annotated[str, AfterValidator(validate_time_zone)]


def parse_port(text: object) -> object:
    """Kubernetes sets KOI_PORT to an address for a service named koi: that is not our setting."""
    linked = isinstance(text, str) and text.startswith(("tcp://", "udp://"))
    return DEFAULT_PORT if linked else text
