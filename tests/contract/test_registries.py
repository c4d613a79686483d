"""Registries are complete: settings, routes, codes, rules of the repository."""

import ast
import re
from pathlib import Path

import pytest

from app.settings import Settings

README = Path("README.md").read_text()
SOURCES = sorted(Path("app").rglob("*.py"))


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(KOI_[A-Z0-9_]+)` \| (.*?) \|", README, re.MULTILINE))
    fields = {f"KOI_{name.upper()}": field for name, field in Settings.model_fields.items()}

    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        if field.default_factory is not None:
            assert rows[name] == "by machine"
            continue
        default = (
            "" if field.default is None else str(getattr(field.default, "value", field.default))
        )
        assert rows[name].strip("`").lower() == default.lower(), name


def test_what_the_readme_names_exists() -> None:
    missing = [path for path in re.findall(r"\]\(([^)#:]+)\)", README) if not Path(path).exists()]

    assert missing == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_module_is_small_and_says_what_it_is(source: Path) -> None:
    text = source.read_text()

    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), "a module opens with one sentence"


OWNERS = {
    r"os\.environ": {
        "app/settings.py",
        "app/provider_settings.py",
        "app/telemetry/multiprocess.py",
        "app/cli/lean_imports.py",
    },
    r"prometheus_client": {
        "app/telemetry/metrics.py",
        "app/telemetry/multiprocess.py",
        "app/telemetry/lean_meters.py",
    },
    r"import httpx": {"app/adapters/upstream"},
    r"HTTPStatus\.|status_code=\d": {"app/api", "app/sandbox"},
    r"koi:[0-9{]": {"app/adapters/redis/keyspace.py"},
}


@pytest.mark.parametrize("pattern", OWNERS, ids=str)
def test_every_fact_has_one_owner(pattern: str) -> None:
    owners = OWNERS[pattern]
    strangers = [
        str(source)
        for source in SOURCES
        if re.search(pattern, source.read_text())
        and not any(str(source).startswith(owner) for owner in owners)
    ]

    assert strangers == []


@pytest.mark.parametrize("room", ["domain", "service"])
def test_no_untyped_dicts_pass_through_the_inner_rooms(room: str) -> None:
    strangers = [
        str(source)
        for source in SOURCES
        if source.parts[1] == room and "dict[str, Any]" in source.read_text()
    ]

    assert strangers == []
