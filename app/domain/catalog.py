"""The models on offer: names, aliases, sizes, qualities, modes and prices, as a value."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType

from app.domain.catalog_fields import CatalogError as CatalogError
from app.domain.catalog_fields import CatalogFields
from app.domain.images import ResponseFormat
from app.domain.money import parse_micros
from app.domain.patterns import PATTERN_SYNTAX, pattern_matches, patterns_overlap

BASE64_NAMES: Mapping[str, ResponseFormat] = MappingProxyType(
    {"gpt-image-*": ResponseFormat.B64_JSON, "chatgpt-image-*": ResponseFormat.B64_JSON}
)
"""OpenAI answers these with base64, so their callers read nothing else. Used where a model in the
catalog has no table of its own."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model as this deployment offers it.

    `modes` lists what the provider supports, "async" and/or "sync"; `max_n` is the most images of
    one upstream call; `prices` are micro-units per image by (quality, size), with "*" for any.
    `alias_patterns` are further names of the model, with `*` for anything; `response_formats` says
    by pattern how a caller that uses such a name expects its pictures.
    """

    name: str
    enabled: bool
    modes: frozenset[str]
    sizes: tuple[str, ...]
    qualities: tuple[str, ...]
    max_n: int
    max_prompt_chars: int
    aliases: tuple[str, ...] = ()
    alias_patterns: tuple[str, ...] = ()
    response_formats: Mapping[str, ResponseFormat] = field(default_factory=dict)
    size_aliases: Mapping[str, str] = field(default_factory=dict)
    quality_aliases: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def default_size(self) -> str:
        return self.sizes[0]

    @property
    def default_quality(self) -> str:
        return self.qualities[0]

    def price(self, size: str, quality: str) -> int | None:
        """Micro-units of one image, by the most specific entry; None when not known."""
        for key in ((quality, size), (quality, "*"), ("*", size), ("*", "*")):
            if key in self.prices:
                return self.prices[key]
        return None

    @property
    def priced(self) -> bool:
        return all(self.price(s, q) is not None for s in self.sizes for q in self.qualities)


@dataclass(frozen=True, slots=True)
class Catalog:
    """`name_prefixes` are what callers may write before any name, such as "openai/"."""

    currency: str
    default_model: str
    models: tuple[Model, ...]
    name_prefixes: tuple[str, ...] = ()

    def find(self, name: str) -> Model | None:
        """An enabled model by its exact name or alias, as the ledger and the operator write it."""
        for model in self.models:
            if model.enabled and (name == model.name or name in model.aliases):
                return model
        return None

    def resolve(self, name: str) -> Model | None:
        """An enabled model by any name that a caller may use: name, alias, prefix, pattern.

        An exact name wins over every pattern, and the name as written over the one without prefix.
        """
        for spelling in self.name_candidates(name):
            model = self.find(spelling) or self._by_pattern(spelling)
            if model is not None:
                return model
        return None

    def response_format(self, name: str, model: Model) -> ResponseFormat | None:
        """What callers that use this name expect; None when the catalog does not say."""
        for spelling in self.name_candidates(name):
            for pattern, response_format in model.response_formats.items():
                if pattern_matches(pattern, spelling):
                    return response_format
        return None

    def _by_pattern(self, name: str) -> Model | None:
        for model in self.enabled:
            if any(pattern_matches(pattern, name) for pattern in model.alias_patterns):
                return model
        return None

    def name_candidates(self, name: str) -> Iterator[str]:
        """The name as written, then without one prefix after the other."""
        yield name
        while prefix := next((p for p in self.name_prefixes if name.startswith(p)), None):
            name = name.removeprefix(prefix)
            yield name

    @property
    def enabled(self) -> tuple[Model, ...]:
        return tuple(model for model in self.models if model.enabled)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Enabled models with a size or quality without a price: no money budget can be kept."""
        return tuple(model.name for model in self.enabled if not model.priced)


def parse_catalog(text: str) -> Catalog:
    """Read a catalog from TOML; raises `CatalogError`."""
    try:
        catalog = _catalog(CatalogFields(tomllib.loads(text), "the file"))
    except ValueError as error:
        raise CatalogError(f"The catalog cannot be read: {error}.") from error
    names = [n for model in catalog.enabled for n in (model.name, *model.aliases)]
    if twice := _repeated(names):
        raise CatalogError(f"The catalog names {twice} more than once")
    if "" in catalog.name_prefixes:
        raise CatalogError("name_prefixes must not hold an empty text")
    _check_patterns(catalog)
    if catalog.find(catalog.default_model) is None:
        raise CatalogError(f"default_model {catalog.default_model!r} is not an enabled model")
    return catalog


def _catalog(fields: CatalogFields) -> Catalog:
    return Catalog(
        currency=fields.text("currency", "CNY"),
        default_model=fields.text("default_model"),
        models=tuple(
            _model(CatalogFields(table, f"model {number}"))
            for number, table in enumerate(fields.tables("models"), start=1)
        ),
        name_prefixes=fields.texts("name_prefixes", ()),
    )


def _model(fields: CatalogFields) -> Model:
    name = fields.owner = fields.text("name")
    model = Model(
        name=name,
        enabled=fields.flag("enabled", default=True),
        modes=frozenset(fields.texts("modes")),
        sizes=fields.texts("sizes"),
        qualities=fields.texts("qualities"),
        max_n=fields.number("max_n", 10),
        max_prompt_chars=fields.number("max_prompt_chars", 32_000),
        aliases=fields.texts("aliases", ()),
        alias_patterns=fields.texts("alias_patterns", ()),
        response_formats=_response_formats(name, fields.table("response_formats", BASE64_NAMES)),
        size_aliases=fields.table("size_aliases", {}),
        quality_aliases=fields.table("quality_aliases", {}),
        prices=dict(_prices(name, fields.table("prices", {}))),
    )
    if not model.modes or not model.modes <= {"async", "sync"}:
        raise CatalogError(f'{name}: modes must be "async", "sync" or both')
    if not model.sizes or not model.qualities or model.max_n < 1:
        raise CatalogError(f"{name}: sizes, qualities and max_n must not be empty")
    if not set(model.size_aliases.values()) <= set(model.sizes):
        raise CatalogError(f"{name}: size_aliases must lead to one of its sizes")
    if not set(model.quality_aliases.values()) <= set(model.qualities):
        raise CatalogError(f"{name}: quality_aliases must lead to one of its qualities")
    return model


def _response_formats(name: str, texts: Mapping[str, str]) -> Mapping[str, ResponseFormat]:
    formats: dict[str, ResponseFormat] = {}
    for pattern, text in texts.items():
        if text not in tuple(ResponseFormat):
            known = ", ".join(ResponseFormat)
            raise CatalogError(f"{name}: response_formats {pattern!r} must be one of {known}")
        formats[pattern] = ResponseFormat(text)
    return formats


def _check_patterns(catalog: Catalog) -> None:
    """Raises `CatalogError` for bad syntax, and for patterns of two models that match one name."""
    owned = [(pattern, model) for model in catalog.enabled for pattern in model.alias_patterns]
    expected = [(p, model) for model in catalog.models for p in model.response_formats]
    for pattern, model in (*owned, *expected):
        if PATTERN_SYNTAX.fullmatch(pattern) is None:
            raise CatalogError(
                f"{model.name}: the pattern {pattern!r} must be up to 100 letters, digits and "
                "._:/@+- with * for anything"
            )
    for (one, mine), (other, theirs) in combinations(owned, 2):
        if mine is not theirs and patterns_overlap(one, other):
            raise CatalogError(
                f"alias_patterns {one!r} of {mine.name} and {other!r} of {theirs.name} match the "
                "same names; narrow one of them"
            )


def _prices(name: str, texts: Mapping[str, str]) -> Iterable[tuple[tuple[str, str], int]]:
    """`"*" = "0.14"`, `hd = "0.28"` or `"hd/1536x1024" = "0.35"`: text, so no float is read."""
    for key, amount in texts.items():
        quality, _, size = key.partition("/")
        try:
            yield (quality, size or "*"), parse_micros(amount)
        except ValueError as error:
            raise CatalogError(f"{name}: prices of {key!r}: {error}") from error


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
