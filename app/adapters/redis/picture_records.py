"""How a job's record holds the pictures that it was settled with."""

from collections.abc import Mapping

import orjson

from app.domain.images import Picture

SHORT_PICTURES = "pics"
"""Stands for `pictures` in jobs that ended long ago (tidy_jobs.lua)."""


def read_pictures(text: str) -> tuple[Picture, ...]:
    return tuple(Picture(**row) for row in orjson.loads(text))


def read_short_pictures(text: str) -> tuple[Picture, ...]:
    """Of jobs that ended long ago, without the names of fields."""
    return tuple(Picture(*row) for row in orjson.loads(text))


def pictures_of(record: Mapping[str, str]) -> tuple[Picture, ...]:
    """Those that a job was settled with."""
    if "pictures" in record:
        return read_pictures(record["pictures"])
    return read_short_pictures(record.get(SHORT_PICTURES, "[]"))
