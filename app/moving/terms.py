"""What another gateway's words become here: money, models, names; and what has no counterpart."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from app.domain.catalog import Catalog
from app.domain.money import MAX_MICROS, MICROS_PER_UNIT
from app.moving.export import ExportInvalid
from app.service.configuration import Configuration
from app.service.teams import MAX_TITLE_CHARS, NAME_PATTERN

DAY, MONTH = "micros_per_day", "micros_per_month"
"""The fields of `Limits` for a day and a month."""
UNFIT = re.compile(r"[^A-Za-z0-9._@+-]+")
MAX_NAME_CHARS = 64
MAX_READ_CHARS = 1024
"""Of a text that a name is made of."""


class Remarks:
    """What is not carried over, or is not as it was: each sentence with whom it is about."""

    def __init__(self) -> None:
        self._about: dict[str, list[str]] = {}

    def add(self, sentence: str, about: str = "") -> None:
        found = self._about.setdefault(sentence, [])
        if about and about not in found:
            found.append(about)

    @property
    def all(self) -> Mapping[str, Sequence[str]]:
        return self._about


@dataclass(frozen=True, slots=True)
class MovedAccounts:
    """What an export wants here. A limit that is None, and a team or models that are None, are not
    said. Keys are without secrets."""

    wanted: Configuration
    remarks: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class MovingTerms:
    """`rate` is one US dollar in the catalog's currency, None when nobody said; `quota_window` the
    field of `Limits` that a balance becomes."""

    catalog: Catalog
    now_ms: int
    rate: Decimal | None = None
    quota_window: str | None = None
    remarks: Remarks = field(default_factory=Remarks)

    def money(self, dollars: Decimal, about: str) -> int | None:
        """Micro-units of the catalog's currency, never more than it was."""
        rate = Decimal(1) if self.catalog.currency == "USD" else self.rate
        if rate is None:
            self.remarks.add(
                "Budgets are in US dollars and prices here in "
                f"{self.catalog.currency}: give --rate to have them carried",
                about,
            )
            return None
        micros = int((dollars * rate * MICROS_PER_UNIT).to_integral_value(ROUND_DOWN))
        if micros > MAX_MICROS:
            self.remarks.add("Budgets beyond what Koi counts: unlimited here", about)
            return None
        return micros

    def models(self, names: Iterable[str], about: str) -> frozenset[str]:
        """Those that are offered here, by catalog name. None of them: no model may be used."""
        models = set()
        for name in names:
            model = self.catalog.resolve(name)
            if model is None:
                self.remarks.add(f"Model {name!r} is not offered here", about)
            else:
                models.add(model.name)
        if not models:
            self.remarks.add("May use no model here, as none of theirs is offered", about)
        return frozenset(models)


def choose_names(kind: str, candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A name for each id: the first of its candidates that nobody else has. The same export always
    gets the same names. Raises `ExportInvalid`."""
    fit = {row_id: [fit_name(text) for text in texts] for row_id, texts in candidates.items()}
    taken = Counter(name for names in fit.values() for name in set(names))
    chosen = {}
    for row_id, names in fit.items():
        own = [name for name in names if name and taken[name] == 1]
        if not own:
            raise ExportInvalid(f"No name can be made for {kind} {row_id!r}.")
        chosen[row_id] = own[0]
    return chosen


def fit_name(text: str) -> str:
    """The text as a name may be written; empty when too little would be left of it."""
    if NAME_PATTERN.fullmatch(text):
        return text
    # Taking a letter apart from many marks takes the square of them.
    apart = unicodedata.normalize("NFKD", text[:MAX_READ_CHARS])
    plain = "".join(c for c in apart if not unicodedata.combining(c))
    if not plain.isascii():
        return ""
    name = UNFIT.sub("-", plain).strip("-._@+")[:MAX_NAME_CHARS]
    return name if NAME_PATTERN.fullmatch(name) else ""


def fit_title(text: str, name: str) -> str:
    title = " ".join(text.split())[:MAX_TITLE_CHARS]
    return title if title.isprintable() and title != name else ""
