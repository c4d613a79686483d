"""Copies the page's libraries out of npm packages: `python -m tests.vendor_page NODE_MODULES`.

Fetch the packages with npm first (`npm install --ignore-scripts` of the versions in `vendor.json`).
The files are the published ones but for three changes that `vendor.json` names: bare imports become
relative ones (an import map would be an inline script), the reference to a source map is left out,
and uPlot's minified script exports its one name. `tests/console/test_vendor.py` keeps the hashes.
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from app.api.console import FOLDER

VENDOR = FOLDER / "vendor"
MAP = re.compile(r"\n?//# sourceMappingURL=\S+\n?")
BARE = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


@dataclass(frozen=True, slots=True)
class Library:
    """A file of a package, and what it is called here."""

    package: str
    source: str
    name: str
    suffix: str = ""


LIBRARIES = (
    Library("preact", "dist/preact.mjs", "preact.js"),
    Library("preact", "hooks/dist/hooks.mjs", "hooks.js"),
    Library("htm", "dist/htm.module.js", "htm.js"),
    Library("@preact/signals-core", "dist/signals-core.module.js", "signals-core.js"),
    Library("@preact/signals", "dist/signals.module.js", "signals.js"),
    Library("uplot", "dist/uPlot.iife.min.js", "uplot.js", "\nexport default uPlot;\n"),
    Library("uplot", "dist/uPlot.min.css", "uplot.css"),
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def convert(library: Library, text: str) -> str:
    """A published file as it is kept here."""
    text = MAP.sub("\n", text)
    for bare, relative in BARE.items():
        text = re.sub(rf'(from|import)\s*"{re.escape(bare)}"', rf'\1"{relative}"', text)
    return text + library.suffix


def main(modules: Path) -> None:
    rows = []
    VENDOR.mkdir(exist_ok=True)
    for library in LIBRARIES:
        home = modules / library.package
        about = json.loads((home / "package.json").read_text())
        published = (home / library.source).read_text()
        kept = convert(library, published)
        (VENDOR / library.name).write_text(kept)
        licence = f"{library.package.replace('@', '').replace('/', '-')}.LICENSE.txt"
        (VENDOR / licence).write_text((home / "LICENSE").read_text())
        rows.append({
            "file": library.name,
            "package": library.package,
            "version": about["version"],
            "source": library.source,
            "source_sha256": digest(published.encode()),
            "sha256": digest(kept.encode()),
            "changed": kept != published,
            "licence": about["license"],
            "licence_file": licence,
        })  # fmt: skip
    (VENDOR / "vendor.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
