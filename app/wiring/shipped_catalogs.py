"""The catalogs that Koi ships, by name, as text to copy."""

from collections.abc import Mapping
from pathlib import Path

from app.wiring.catalog_file import DEFAULT_CATALOG_PATH

PRESETS = Path(__file__).parent.parent / "catalogs"


def shipped_catalogs() -> Mapping[str, Path]:
    """`koi` is the one that a gateway uses without KOI_CATALOG; the others are presets."""
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}
    return {"koi": DEFAULT_CATALOG_PATH, **presets}
