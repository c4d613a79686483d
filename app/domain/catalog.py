"""The models on offer: names, aliases, sizes, qualities, modes and prices, as a value."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType

from app.domain.catalog_fields import CatalogError as CatalogError
from app.domain.catalog_fields import CatalogFields
from app.domain.catalog_fields import CatalogMistake as CatalogMistake
from app.domain.catalog_providers import (
    ProviderSection,
    list_mistakes,
    provider_mistakes,
    read_providers,
)
from app.domain.images import ResponseFormat
from app.domain.money import parse_micros
from app.domain.patterns import PATTERN_SYNTAX, pattern_matches, patterns_overlap
from app.domain.references import REFERENCE_FIELD, reference_mistakes

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
    by pattern how a caller that uses such a name expects its pictures. `provider` is the name of
    the provider that has it, None for the main one of the settings, and `upstream_name` what that
    one calls it, None where that is its name. `references` is how many reference images it takes,
    in its field `reference_field`; `reference_micros` is the price of each, for every image that
    is made with it.
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
    references: int = 0
    reference_micros: int = 0
    reference_field: str = REFERENCE_FIELD
    provider: str | None = None
    upstream_name: str | None = None

    @property
    def sent_name(self) -> str:
        """What its provider calls it."""
        return self.upstream_name or self.name

    @property
    def default_size(self) -> str:
        return self.sizes[0]

    @property
    def default_quality(self) -> str:
        return self.qualities[0]

    def price(self, size: str, quality: str, references: int = 0) -> int | None:
        """Micro-units of one image, by the most specific entry, made with so many reference images;
        None when not known."""
        for key in ((quality, size), (quality, "*"), ("*", size), ("*", "*")):
            if key in self.prices:
                return self.prices[key] + references * self.reference_micros
        return None

    def images_per_call(self, references: int) -> int:
        """How many images one upstream call asks for. Each call carries all reference images, so
        where these cost something a call makes one image: then its price is exact."""
        return 1 if references and self.reference_micros else self.max_n

    @property
    def priced(self) -> bool:
        return all(self.price(s, q) is not None for s in self.sizes for q in self.qualities)


@dataclass(frozen=True, slots=True)
class Catalog:
    """`name_prefixes` are what callers may write before any name, such as "openai/"; `providers`
    are those beside the main one."""

    currency: str
    default_model: str
    models: tuple[Model, ...]
    name_prefixes: tuple[str, ...] = ()
    providers: tuple[ProviderSection, ...] = ()

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
    def with_references(self) -> tuple[Model, ...]:
        """Enabled models that take reference images."""
        return tuple(model for model in self.enabled if model.references)

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
        catalog = read_models(CatalogFields(tomllib.loads(text), "the file"))
    except ValueError as error:
        raise CatalogError(f"The catalog cannot be read: {error}.") from error
    for model in catalog.models:
        for _, sentence in model_mistakes(model):
            raise CatalogError(f"{model.name}: {sentence}")
    for section in catalog.providers:
        for _, sentence in provider_mistakes(section):
            raise CatalogError(f"provider {section.name}: {sentence}")
    for mistake in catalog_mistakes(catalog):
        raise CatalogError(mistake.sentence)
    return catalog


def catalog_mistakes(catalog: Catalog) -> Iterator[CatalogMistake]:
    """All of them, each once."""
    owners: dict[str, str] = {}
    for model in catalog.enabled:
        for name in (model.name, *model.aliases):
            if name in owners:
                where = "aliases" if name in model.aliases else "name"
                sentence = f"The catalog names {name} more than once"
                yield CatalogMistake(model.name, where, name, sentence)
            owners[name] = model.name
    if "" in catalog.name_prefixes:
        sentence = "name_prefixes must not hold an empty text"
        yield CatalogMistake("", "name_prefixes", "", sentence)
    yield from _pattern_mistakes(catalog)
    homes = {model.name: model.provider for model in catalog.models}
    yield from list_mistakes(catalog.providers, homes)
    if catalog.find(catalog.default_model) is None:
        sentence = f"default_model {catalog.default_model!r} is not an enabled model"
        yield CatalogMistake("", "default_model", catalog.default_model, sentence)


def read_models(fields: CatalogFields) -> Catalog:
    """The catalog as it is written, whether or not its models can be offered."""
    return Catalog(
        currency=fields.text("currency", "CNY"),
        default_model=fields.text("default_model"),
        models=tuple(
            _model(fields.nested(table, f"model {number}"))
            for number, table in enumerate(fields.tables("models"), start=1)
        ),
        name_prefixes=fields.texts("name_prefixes", ()),
        providers=read_providers(fields),
    )


def _model(fields: CatalogFields) -> Model:
    name = fields.owner = fields.text("name")
    return Model(
        name=name,
        enabled=fields.flag("enabled", default=True),
        modes=frozenset(fields.texts("modes")),
        sizes=fields.texts("sizes"),
        qualities=fields.texts("qualities"),
        max_n=fields.number("max_n", 10),
        max_prompt_chars=fields.number("max_prompt_chars", 32_000),
        aliases=fields.texts("aliases", ()),
        alias_patterns=fields.texts("alias_patterns", ()),
        response_formats=fields.entries("response_formats", BASE64_NAMES, _response_format),
        size_aliases=fields.table("size_aliases", {}),
        quality_aliases=fields.table("quality_aliases", {}),
        prices=fields.entries("prices", {}, _price),
        references=fields.number("references", 0),
        reference_micros=fields.amount("reference_price", "0"),
        reference_field=fields.text("reference_field", REFERENCE_FIELD),
        provider=fields.optional_text("provider"),
        upstream_name=fields.optional_text("upstream_name"),
    )


def model_mistakes(model: Model) -> Iterator[tuple[str, str]]:
    """What is wrong in a model whose fields have the right types: the field, and a sentence."""
    if not model.modes or not model.modes <= {"async", "sync"}:
        yield "modes", 'modes must be "async", "sync" or both'
    for field_name in ("sizes", "qualities"):
        if not getattr(model, field_name):
            yield field_name, f"{field_name} must not be empty"
    if model.max_n < 1:
        yield "max_n", "max_n must be at least 1"
    if model.upstream_name == "":
        yield "upstream_name", "upstream_name must not be empty; leave it out for the same name"
    if not set(model.size_aliases.values()) <= set(model.sizes):
        yield "size_aliases", "size_aliases must lead to one of its sizes"
    if not set(model.quality_aliases.values()) <= set(model.qualities):
        yield "quality_aliases", "quality_aliases must lead to one of its qualities"
    yield from reference_mistakes(model.references, model.reference_field)


def _response_format(pattern: str, text: str) -> tuple[str, ResponseFormat]:
    if text not in tuple(ResponseFormat):
        raise ValueError(f"must be one of {', '.join(ResponseFormat)}")
    return pattern, ResponseFormat(text)


def _pattern_mistakes(catalog: Catalog) -> Iterator[CatalogMistake]:
    """Bad syntax, and patterns of two models that match one name."""
    owned = [(pattern, model) for model in catalog.enabled for pattern in model.alias_patterns]
    expected = [(p, model) for model in catalog.models for p in model.response_formats]
    for field_name, pairs in (("alias_patterns", owned), ("response_formats", expected)):
        for pattern, model in pairs:
            if PATTERN_SYNTAX.fullmatch(pattern) is None:
                sentence = (
                    f"{model.name}: the pattern {pattern!r} must be up to 100 letters, digits and "
                    "._:/@+- with * for anything"
                )
                yield CatalogMistake(model.name, field_name, pattern, sentence)
    for (one, mine), (other, theirs) in combinations(owned, 2):
        if mine is not theirs and patterns_overlap(one, other):
            sentence = (
                f"alias_patterns {one!r} of {mine.name} and {other!r} of {theirs.name} match the "
                "same names; narrow one of them"
            )
            yield CatalogMistake(theirs.name, "alias_patterns", other, sentence)


def _price(key: str, amount: str) -> tuple[tuple[str, str], int]:
    """`"*" = "0.14"`, `hd = "0.28"` or `"hd/1536x1024" = "0.35"`: text, so no float is read."""
    quality, _, size = key.partition("/")
    return (quality, size or "*"), parse_micros(amount)
