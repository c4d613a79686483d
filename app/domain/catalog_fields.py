"""The fields of the catalog's tables, each read as the only type it may have."""

from collections.abc import Iterable, Mapping
from typing import Any


class CatalogError(ValueError):
    """The catalog file cannot be used; the message names the entry and what to change."""


class CatalogFields:
    """One table. Every method raises `CatalogError`, which names the field. Without a `default` the
    field is required."""

    def __init__(self, table: object, owner: str) -> None:
        self.owner = owner
        if not isinstance(table, Mapping):
            raise CatalogError(f"{owner} must be a table")
        self._table: Mapping[str, Any] = table

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def texts(self, key: str, default: Iterable[str] | None = None) -> tuple[str, ...]:
        value = self._value(key, None if default is None else list(default))
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self._wrong(key, "a list of texts")
        return tuple(value)

    def number(self, key: str, default: int) -> int:
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "a whole number")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def table(self, key: str, default: Mapping[str, str]) -> dict[str, str]:
        """A table whose values are texts."""
        value = self._value(key, default)
        if not isinstance(value, Mapping):
            raise self._wrong(key, "a table of texts")
        for name, text in value.items():
            if not isinstance(text, str):
                raise CatalogError(f"{self.owner}: {key} of {name!r} must be text in quotes")
        return dict(value)

    def tables(self, key: str) -> tuple[Mapping[str, Any], ...]:
        value = self._value(key, None)
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            raise self._wrong(key, "a list of tables")
        return tuple(value)

    def _value(self, key: str, default: object) -> object:
        value = self._table.get(key, default)
        if value is None:
            raise CatalogError(f"{self.owner}: {key!r} is missing")
        return value

    def _wrong(self, key: str, wanted: str) -> CatalogError:
        return CatalogError(f"{self.owner}: {key} must be {wanted}")
