"""Kinds of settings that the standard types do not know: modes, time zones, amounts, counts."""

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from app.domain.money import parse_micros


class UpstreamMode(StrEnum):
    AUTO = "auto"
    ASYNC = "async"
    SYNC = "sync"


def zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is not a time zone name such as Asia/Shanghai") from None
    return name


def amount(text: str | None) -> str | None:
    if text is not None:
        parse_micros(text)
    return text


Amount = Annotated[str | None, AfterValidator(amount)]
Count = Annotated[int | None, Field(ge=0)]
Zone = Annotated[str, AfterValidator(zone)]
