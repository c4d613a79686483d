"""`koi catalog`: check a catalog of models, print one that Koi ships."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.cli.errors import EXIT_FAILED, CommandFailed, usage_error
from app.cli.options import AsJson
from app.cli.output import print_json, print_line, write_output
from app.cli.session import load_settings_as_reader

if TYPE_CHECKING:
    from app.domain.catalog_check import CatalogRemark, CatalogReview

catalog = App(name="catalog", help="Check a catalog of models, print one that Koi ships.")


@catalog.command
def check(
    file: Annotated[Path, Parameter(help="The catalog, as KOI_CATALOG would name it.")],
    /,
    *,
    json: AsJson = False,
) -> int:
    """Say everything that is wrong in a catalog, where, and what to do.

    Each mistake with its line; then what is doubtful: sizes and qualities without a price, names
    that mean two models, fields that Koi does not know. The keys of [[providers]] are looked for
    here too, and never shown. Exits 1 when a gateway would refuse it.

    Example: koi catalog check catalog.toml
    """
    from app.domain.catalog_check import review_catalog  # noqa: PLC0415 - not for the help
    from app.provider_settings import section_mistakes  # noqa: PLC0415

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise usage_error(f"{file} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise usage_error(f"{file} is not in UTF-8.") from None
    review = review_catalog(text, partial(section_mistakes, plain=_allows_plain()))
    if json:
        print_json(_record(review))
    else:
        _print_review(file, review)
    return 0 if review.is_usable else EXIT_FAILED


@catalog.command
def show(
    name: Annotated[
        str | None, Parameter(help="koi, or a preset; without it, their names.")
    ] = None,
    /,
    *,
    json: AsJson = False,
) -> None:
    """Print a catalog that Koi ships, to be copied and edited.

    `koi` is what a gateway uses without KOI_CATALOG; `xai` has xAI's own names and prices.

    Example: koi catalog show xai > catalog.toml
    """
    from app.wiring.shipped_catalogs import shipped_catalogs  # noqa: PLC0415 - not for the help

    shipped = shipped_catalogs()
    if name is None:
        names = list(shipped)
        print_json(names) if json else print_line("\n".join(names))
        return
    if name not in shipped:
        raise usage_error(f"Koi ships {', '.join(shipped)}; not {name!r}.")
    text = shipped[name].read_text(encoding="utf-8")
    if json:
        print_json({"name": name, "toml": text})
    else:
        write_output(text)


def _allows_plain() -> bool:
    """Whether http to providers is allowed here; other settings may be wrong or missing."""
    try:
        return load_settings_as_reader().allow_plain_upstream
    except CommandFailed:
        return False


def _record(review: "CatalogReview") -> dict[str, object]:
    catalog = review.catalog
    models = [] if catalog is None else [model.name for model in catalog.enabled]
    remarks = [asdict(remark) for remark in review.remarks]
    return {"usable": review.is_usable, "models": models, "remarks": remarks}


def _print_review(file: Path, review: "CatalogReview") -> None:
    mistakes = [remark for remark in review.remarks if remark.serious]
    doubts = [remark for remark in review.remarks if not remark.serious]
    _print_remarks(file, "wrong", mistakes)
    _print_remarks(file, "look", doubts)
    counts = f"{len(mistakes)} to correct, {len(doubts)} to look at"
    if review.catalog is None:
        print_line(f"{counts}; a gateway refuses this file")
    else:
        print_line(f"{counts}; {len(review.catalog.enabled)} models on offer")


def _print_remarks(file: Path, word: str, remarks: "Sequence[CatalogRemark]") -> None:
    for remark in remarks:
        place = f"{file}:{remark.line}" if remark.line else f"{file}"
        said = remark.text
        if not said.startswith((f"{remark.owner}:", f"{remark.owner} ")):
            said = f"{remark.owner}: {said}"
        print_line(f"{word:<5}  {place}  {said}")
        print_line(f"{'':<5}  -> {remark.fix}")
