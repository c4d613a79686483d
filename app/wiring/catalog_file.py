"""The catalog of models, as an operator's file or as shipped."""

from functools import lru_cache
from pathlib import Path

from app.domain.catalog import Catalog, parse_catalog
from app.settings import Settings

DEFAULT_CATALOG_PATH = Path(__file__).parent.parent / "catalog.toml"


def read_catalog(settings: Settings) -> Catalog:
    """Raises `CatalogError`."""
    path = settings.catalog or DEFAULT_CATALOG_PATH
    return _parse(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def _parse(text: str) -> Catalog:
    return parse_catalog(text)
