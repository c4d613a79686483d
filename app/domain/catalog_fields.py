"""The fields of the catalog's tables, each read as the only type it may have."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from app.domain.limits import MAX_COUNT
from app.domain.money import parse_micros

K = TypeVar("K")
V = TypeVar("V")


class CatalogError(ValueError):
    """The catalog file cannot be used; the message names the entry and what to change. `field` and
    `key` say where it is, as far as that is known."""

    def __init__(self, sentence: str, field: str = "", key: str = "") -> None:
        super().__init__(sentence)
        self.field, self.key = field, key


@dataclass(frozen=True, slots=True)
class CatalogMistake:
    """What is wrong between the models of a catalog. `model` is empty for the file as a whole, and
    "provider <name>" where two of these have one name; `key` is the name or pattern that it is
    about."""

    model: str
    field: str
    key: str
    sentence: str


class CatalogFields:
    """One table. Every method raises `CatalogError`, which names the field. Without a `default` the
    field is required.

    `refuse` is told every mistake; one that returns instead of raising gets harmless values, so
    that it learns of all of them.
    """

    def __init__(self, table: object, owner: str) -> None:
        self.owner = owner
        self.asked: set[str] = set()
        """The fields that there are, as far as they were read."""
        self._table: Mapping[str, Any] = table if isinstance(table, Mapping) else {}
        if not isinstance(table, Mapping):
            self.refuse("", "", f"{owner} must be a table")

    def refuse(self, field: str, key: str, sentence: str) -> None:
        """Raises `CatalogError`. `key` is the entry of a table that it is about, if any."""
        raise CatalogError(sentence, field, key)

    def nested(self, table: object, owner: str, kind: str = "models") -> "CatalogFields":  # noqa: ARG002
        """The fields of a table in this one, of the list `kind`."""
        return CatalogFields(table, owner)

    def refuse_if_present(self, key: str, sentence: str) -> None:
        """Refuse a field that must not be there, whatever it says."""
        if key in self._table:
            self.asked.add(key)
            self.refuse(key, "", sentence)

    def optional_text(self, key: str) -> str | None:
        self.asked.add(key)
        return self.text(key) if key in self._table else None

    def optional_number(self, key: str) -> int | None:
        self.asked.add(key)
        return self.number(key, 1) if key in self._table else None

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if isinstance(value, str):
            return value
        self._wrong(key, value, "a text")
        return default or ""

    def texts(self, key: str, default: Iterable[str] | None = None) -> tuple[str, ...]:
        value = self._value(key, None if default is None else list(default))
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return tuple(value)
        self._wrong(key, value, "a list of texts")
        return tuple(default or ())

    def number(self, key: str, default: int) -> int:
        value = self._value(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value <= MAX_COUNT:
            return value
        self._wrong(key, value, f"a whole number of at most {MAX_COUNT:,}")
        return default

    def amount(self, key: str, default: str) -> int:
        """Money as text, in micro-units."""
        text = self.text(key, default)
        try:
            return parse_micros(text)
        except ValueError as error:
            self.refuse(key, key, f"{self.owner}: {key}: {error}")
            return parse_micros(default)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._value(key, default)
        if isinstance(value, bool):
            return value
        self._wrong(key, value, "true or false")
        return default

    def table(self, key: str, default: Mapping[str, str]) -> dict[str, str]:
        """A table whose values are texts."""
        value = self._value(key, default)
        if not isinstance(value, Mapping):
            self._wrong(key, value, "a table of texts")
            return dict(default)
        for name, text in value.items():
            if not isinstance(text, str):
                sentence = f"{self.owner}: {key} of {name!r} must be text in quotes"
                self.refuse(key, str(name), sentence)
        return {name: text for name, text in value.items() if isinstance(text, str)}

    def entries(
        self, key: str, default: Mapping[str, str], read: Callable[[str, str], tuple[K, V]]
    ) -> dict[K, V]:
        """A table whose entries `read` understands; `read` raises `ValueError` for others."""
        found: dict[K, V] = {}
        for name, text in self.table(key, default).items():
            try:
                entry, value = read(name, text)
            except ValueError as error:
                self.refuse(key, name, f"{self.owner}: {key} of {name!r}: {error}")
            else:
                found[entry] = value
        return found

    def tables(self, key: str, default: tuple[()] | None = None) -> tuple[Mapping[str, Any], ...]:
        value = self._value(key, None if default is None else [])
        if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            return tuple(value)
        self._wrong(key, value, "a list of tables")
        return ()

    def _value(self, key: str, default: object) -> object:
        self.asked.add(key)
        value = self._table.get(key, default)
        if value is None:
            self.refuse(key, "", f"{self.owner}: {key!r} is missing")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> None:
        """A missing field was refused before."""
        if value is not None:
            self.refuse(key, "", f"{self.owner}: {key} must be {wanted}")
