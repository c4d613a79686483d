"""All that is wrong or doubtful in a catalog's text, each with its line and what to do."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product

from app.domain.catalog import Catalog, Model, catalog_mistakes, model_mistakes, read_models
from app.domain.catalog_fields import CatalogFields
from app.domain.catalog_providers import ProviderSection, provider_mistakes
from app.domain.patterns import pattern_matches

FILE = "the file"
HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]?\]")
ASSIGNMENT = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_.-]+))\s*=""")
SYNTAX_LINE = re.compile(r"at line (\d+)")
FIXES = {
    "modes": 'Write modes = ["async", "sync"], or the one that the provider has.',
    "sizes": "Name at least one size; the first is the default.",
    "qualities": 'Name at least one quality; ["standard"] if the provider has none.',
    "max_n": "Write how many images one call of the provider may ask for.",
    "size_aliases": "Let each alias name a size of this model's list, letter by letter.",
    "quality_aliases": "Let each alias name a quality of this model's list, letter by letter.",
    "aliases": "Remove the name from one of the models, or switch one off with enabled = false.",
    "name": "Give one of the models another name, or switch one off with enabled = false.",
    "name_prefixes": "Remove the empty text.",
    "alias_patterns": "Narrow or remove one of the patterns.",
    "default_model": "Name a model of this file that is not switched off.",
    "prices": 'Write an amount in quotes, such as "0.14".',
    "references": "Write how many input images one call takes; leave it out for a model with none.",
    "reference_price": 'Write the price of one input image in quotes, such as "0.05".',
    "reference_field": 'Write the name in the provider\'s page, such as "image".',
    "response_formats": 'Write "url", "b64_json" or "both".',
    "provider": "Name one of [[providers]], or add it: name, base_url and api_key_env.",
    "upstream_name": "Write what this provider calls the model, or remove the field.",
}
PROVIDER_FIXES = {
    "name": 'Write a word such as "second", for one provider only.',
    "base_url": 'Write its address as its documentation has it, such as "https://example.com/v1".',
    "api_key": 'Write api_key_env = "SECOND_API_KEY" and set that variable to the key.',
    "api_key_env": 'Write api_key_env = "SECOND_API_KEY", or api_key_file = "second.key".',
    "api_key_file": 'Write api_key_env = "SECOND_API_KEY", or api_key_file = "second.key".',
    "mode": 'Write "auto", "async" or "sync", or remove the field.',
}
KEY_FIXES = {
    "api_key_env": "Set that variable, where the gateway runs or in its .env, to the whole key.",
    "api_key_file": "Put the whole key, alone, into that file, or name another one.",
}
"""Where the section is right, and only the key is not there."""
PROVIDER_FIX = "Write a whole number of 1 or more, or remove the field."
SectionCheck = Callable[[ProviderSection], Iterable[tuple[str, str]]]
"""What is wrong in a provider's section outside the catalog: field and sentence."""
ALIASES_OF = {"size_aliases": "sizes", "quality_aliases": "qualities"}
OTHER_FIX = "Write it as in the catalog that Koi ships: koi catalog show koi."


@dataclass(frozen=True, slots=True)
class CatalogRemark:
    """`line` is None where no line can be named; `serious`: Koi refuses the file."""

    line: int | None
    owner: str
    field: str
    text: str
    fix: str
    serious: bool = True


@dataclass(frozen=True, slots=True)
class CatalogReview:
    """What a file holds, and what is to be said of it; `catalog` is None when it cannot be used."""

    catalog: Catalog | None
    remarks: tuple[CatalogRemark, ...]

    @property
    def is_usable(self) -> bool:
        return self.catalog is not None


class CatalogLines:
    """Where the fields of a catalog stand in its text."""

    def __init__(self, text: str) -> None:
        self._places: dict[tuple[int, str, str], int] = {}
        model, table, counts = 0, "", {"models": 0, "providers": 0}
        for number, line in enumerate(text.splitlines(), start=1):
            header, assigned = HEADER.match(line), ASSIGNMENT.match(line)
            if header is not None and header[2] in counts:
                counts[header[2]] += 1
                model, table = place_of(header[2], counts[header[2]]), ""
                self._places.setdefault((model, "", ""), number)
            elif header is not None:
                table = header[2].removeprefix("models.").strip()
                self._places.setdefault((model, table, ""), number)
            elif assigned is not None:
                key = next(filter(None, assigned.groups()))
                place = (model, table, key) if table else (model, key, "")
                self._places.setdefault(place, number)

    def find(self, model: int, field: str, key: str = "") -> int | None:
        """The line of an entry, else of its field, else of its model or provider (`place_of`); 0 is
        the file's top."""
        places = ((model, field, key), (model, field, ""), (model, "", ""))
        return next((self._places[p] for p in places if p in self._places), None)


def place_of(kind: str, number: int) -> int:
    """One number for the n-th of `models` or of `providers`."""
    return number if kind == "models" else -number


class ReviewedFields(CatalogFields):
    """Reads on after a mistake, and keeps them all."""

    def __init__(self, table: object, owner: str, place: int = 0) -> None:
        self.place = place
        """0 for the file, else that of the model or provider."""
        self.mistakes: list[tuple[str, str, str]] = []
        """Field, entry, sentence."""
        self.lists: dict[str, list[ReviewedFields]] = {"models": [], "providers": []}
        super().__init__(table, owner)

    def refuse(self, field: str, key: str, sentence: str) -> None:
        self.mistakes.append((field, key, sentence))

    def nested(self, table: object, owner: str, kind: str = "models") -> CatalogFields:
        of_kind = self.lists[kind]
        inner = ReviewedFields(table, owner, place_of(kind, len(of_kind) + 1))
        of_kind.append(inner)
        return inner

    @property
    def all_tables(self) -> "tuple[ReviewedFields, ...]":
        return (self, *self.lists["models"], *self.lists["providers"])

    @property
    def unknown(self) -> list[str]:
        return [name for name in self._table if name not in self.asked]


def review_catalog(text: str, check_section: SectionCheck = lambda _section: ()) -> CatalogReview:
    """Read a catalog and say everything about it. Raises nothing."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        found = SYNTAX_LINE.search(str(error))
        line = None if found is None else int(found[1])
        fix = "Correct the TOML there: texts in quotes, lists in brackets, one field a line."
        return CatalogReview(None, (CatalogRemark(line, FILE, "", f"{error}", fix),))
    fields = ReviewedFields(document, FILE)
    catalog = read_models(fields)
    lines = CatalogLines(text)
    serious = [
        *_type_mistakes(fields, lines),
        *_meaning_mistakes(fields, catalog, lines),
        *_section_mistakes(fields, catalog, lines, check_section),
    ]
    doubts = [*_unknown_fields(fields, lines), *_doubts(catalog, lines)]
    in_order = sorted(
        (*serious, *doubts), key=lambda remark: (not remark.serious, remark.line or 0)
    )
    return CatalogReview(None if serious else catalog, tuple(in_order))


def _type_mistakes(fields: ReviewedFields, lines: CatalogLines) -> Iterator[CatalogRemark]:
    for table in fields.all_tables:
        for field, key, sentence in table.mistakes:
            line = lines.find(table.place, field, key)
            fix = FIXES.get(field, OTHER_FIX) if key else OTHER_FIX
            fix = PROVIDER_FIXES.get(field, PROVIDER_FIX) if table.place < 0 else fix
            yield CatalogRemark(line, table.owner, field, sentence, fix)


def _meaning_mistakes(
    fields: ReviewedFields, catalog: Catalog, lines: CatalogLines
) -> Iterator[CatalogRemark]:
    """Where the types are right. What only follows from a mistake before is not said again."""
    for number, model in enumerate(catalog.models, start=1):
        broken = {field for field, _, _ in fields.lists["models"][number - 1].mistakes}
        for field, sentence in model_mistakes(model):
            if not broken & {field, ALIASES_OF.get(field, field)}:
                line = lines.find(number, field)
                yield CatalogRemark(line, model.name, field, sentence, FIXES[field])
    numbers = {model.name: number for number, model in enumerate(catalog.models, start=1)}
    numbers |= {f"provider {s.name}": -n for n, s in enumerate(catalog.providers, start=1)}
    for mistake in catalog_mistakes(catalog):
        if not mistake.key and mistake.field in ("name", "default_model"):
            continue  # it is missing, which was said
        line = lines.find(numbers.get(mistake.model, 0), mistake.field, mistake.key)
        owner = mistake.model or FILE
        fixes = PROVIDER_FIXES if owner.startswith("provider ") else FIXES
        yield CatalogRemark(line, owner, mistake.field, mistake.sentence, fixes[mistake.field])


def _section_mistakes(
    fields: ReviewedFields, catalog: Catalog, lines: CatalogLines, check_section: SectionCheck
) -> Iterator[CatalogRemark]:
    """Where the types are right; what is outside the catalog only where its section is right."""
    for number, section in enumerate(catalog.providers, start=1):
        if fields.lists["providers"][number - 1].mistakes:
            continue
        mistakes = [*provider_mistakes(section)]
        fixes = PROVIDER_FIXES if mistakes else PROVIDER_FIXES | KEY_FIXES
        for field, sentence in mistakes or check_section(section):
            line = lines.find(place_of("providers", number), field)
            fix = fixes.get(field, PROVIDER_FIX)
            yield CatalogRemark(line, f"provider {section.name}", field, sentence, fix)


def _unknown_fields(fields: ReviewedFields, lines: CatalogLines) -> Iterator[CatalogRemark]:
    for table in fields.all_tables:
        for name in table.unknown:
            near = get_close_matches(name, table.asked, n=1)
            fix = f"Did you mean {near[0]}?" if near else "Remove it."
            line = lines.find(table.place, name)
            text = f"{name} is no field that Koi knows; it does nothing"
            yield CatalogRemark(line, table.owner, name, text, fix, serious=False)


def _doubts(catalog: Catalog, lines: CatalogLines) -> Iterator[CatalogRemark]:
    for number, model in enumerate(catalog.models, start=1):
        yield from _price_doubts(model, number, lines)
        if model.reference_micros and not model.references:
            yield CatalogRemark(
                lines.find(number, "reference_price"),
                model.name,
                "reference_price",
                "it takes no reference images, so their price does nothing",
                "Write references = N, or remove the price.",
                serious=False,
            )
        if not model.enabled:
            continue
        for alias in model.aliases:
            yield from _alias_doubts(catalog, model, alias, lines.find(number, "aliases"))


def _price_doubts(model: Model, number: int, lines: CatalogLines) -> Iterator[CatalogRemark]:
    offered = list(product(model.qualities, model.sizes))
    unpriced = [f"{q}/{size}" for q, size in offered if model.price(size, q) is None]
    if model.enabled and unpriced:
        partly = len(unpriced) < len(offered)
        yield CatalogRemark(
            lines.find(number, "prices"),
            model.name,
            "prices",
            f"without a price: {', '.join(unpriced)}" if partly else "no price at all",
            "Its cost is shown as unknown and money budgets are refused; add what the provider "
            f'bills, such as "{unpriced[0]}" = "0.14".',
            serious=False,
        )
    for quality, size in model.prices:
        right = quality in ("*", *model.qualities) and size in ("*", *model.sizes)
        if not right:
            key = quality if size == "*" else f"{quality}/{size}"
            yield CatalogRemark(
                lines.find(number, "prices", key),
                model.name,
                "prices",
                f"the price of {key} is of nothing that this model offers",
                "Write quality, quality/size or * with words of its own lists.",
                serious=False,
            )


def _alias_doubts(
    catalog: Catalog, model: Model, alias: str, line: int | None
) -> Iterator[CatalogRemark]:
    """Names that mean something else than they may seem to."""
    for other in catalog.models:
        if other is model:
            continue
        if not other.enabled and alias in (other.name, *other.aliases):
            text = f"the alias {alias} is also a name of {other.name}, which is switched off"
            fix = f"Remove the alias before you enable {other.name}."
            yield CatalogRemark(line, model.name, "aliases", text, fix, serious=False)
        elif other.enabled and any(pattern_matches(p, alias) for p in other.alias_patterns):
            text = f"the alias {alias} also matches a pattern of {other.name}"
            fix = f"The alias wins, so {model.name} gets it; narrow the pattern if that is wrong."
            yield CatalogRemark(line, model.name, "aliases", text, fix, serious=False)
