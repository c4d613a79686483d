"""Vendored libraries are the published ones, byte for byte as they were reviewed."""

import hashlib
import json
import re
from pathlib import Path

from app.api.console import FOLDER

VENDOR = FOLDER / "vendor"
IMPORT = re.compile(
    r"""^(?:import|export)[^'"\n]*['"]([^'"]+)['"];"""
    r"""|\bfrom *"(\.[^"]+)"|\bimport\(['"]([^'"]+)['"]""",
    re.MULTILINE,
)
"""Of a line of ours, of a minified library, and a late one."""
ROWS = json.loads((VENDOR / "vendor.json").read_text())


def test_every_vendored_file_is_the_one_on_the_list() -> None:
    kept = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}

    assert kept == {row["file"] for row in ROWS}
    for row in ROWS:
        digest = hashlib.sha256((VENDOR / row["file"]).read_bytes()).hexdigest()
        assert digest == row["sha256"], row["file"]


def test_every_library_comes_with_its_version_and_licence() -> None:
    for row in ROWS:
        assert re.fullmatch(r"\d+\.\d+\.\d+", row["version"])
        text = (VENDOR / row["licence_file"]).read_text()
        assert ("Apache License" if row["licence"] == "Apache-2.0" else "MIT") in text


def test_nothing_of_the_page_comes_from_elsewhere_or_writes_html() -> None:
    own = [path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".html")]
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerously|\beval\(|new Function"
    )
    for path in own:
        text = path.read_text()
        if VENDOR not in path.parents:
            assert not sinks.search(text), path
            assert len(text.splitlines()) <= 300, path
        for link in re.findall(
            r"""(?:from|import|src=|href=|url)\s*\(?["']?(https?:[^"')\s]+)""", text
        ):
            raise AssertionError(f"{path} loads {link}")
        for name in map("".join, IMPORT.findall(text)):
            assert (path.parent / name).resolve().is_relative_to(Path(FOLDER).resolve()), name
            assert (path.parent / name).exists(), (path, name)
