"""`koi catalog check` names every mistake with its line; what Koi ships passes it."""

from pathlib import Path
from typing import Any

import pytest

from app.domain.catalog import CatalogError, parse_catalog
from app.domain.catalog_check import review_catalog
from app.wiring.shipped_catalogs import shipped_catalogs
from tests.flow.command import Cli

GOOD = """\
currency = "CNY"
default_model = "a"
[[models]]
name = "a"
modes = ["sync"]
sizes = ["1024x1024", "2048x2048"]
qualities = ["standard", "hd"]
[models.prices]
standard = "0.14"
"hd/1024x1024" = "0.28"
"hd/2048x2048" = "0.35"
"""
OTHER = """\
[[models]]
name = "b"
modes = ["sync"]
sizes = ["1024x1024"]
qualities = ["standard"]
prices = { "*" = "0.1" }
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def remarks(text: str) -> list[tuple[int | None, str, bool]]:
    return [(r.line, r.field, r.serious) for r in review_catalog(text).remarks]


PROVIDER = """\
[[providers]]
name = "second"
base_url = "https://api.second.test/v1"
api_key_env = "SECOND_API_KEY"
rpm = 60
"""
OF_SECOND = OTHER.replace('name = "b"', 'name = "b"\nprovider = "second"')


@pytest.mark.parametrize("name", shipped_catalogs())
def test_every_catalog_that_koi_ships_can_be_used(cli: Cli, name: str) -> None:
    text = cli.text("catalog", "show", name)
    (cli.path / "catalog.toml").write_text(text)

    review = cli.json("catalog", "check", "catalog.toml")

    assert review["usable"]
    assert not any(remark["serious"] for remark in review["remarks"])


def test_the_preset_of_xai_has_a_price_for_all_that_it_offers(cli: Cli) -> None:
    (cli.path / "xai.toml").write_text(cli.text("catalog", "show", "xai"))

    assert cli.json("catalog", "check", "xai.toml")["remarks"] == []
    models = parse_catalog((cli.path / "xai.toml").read_text()).enabled
    assert [model.name for model in models] == [
        "grok-imagine-image",
        "grok-imagine-image-quality",
        "grok-imagine-image-2.0",
    ]


def test_a_catalog_without_faults_passes(cli: Cli) -> None:
    (cli.path / "good.toml").write_text(GOOD)

    assert "0 to correct, 0 to look at" in cli.text("catalog", "check", "good.toml")


def test_all_mistakes_are_named_at_once_each_with_its_line_and_what_to_do(cli: Cli) -> None:
    bad = GOOD.replace('["sync"]', '["slow"]').replace('"CNY"', "7").replace('"0.28"', '"cheap"')
    (cli.path / "bad.toml").write_text(bad + 'max_n = "ten"\n' + OTHER.replace("sizes", "sises"))

    said = cli.run("catalog", "check", "bad.toml", code=1).stdout

    for place in ("bad.toml:1", "bad.toml:5", "bad.toml:10", "bad.toml:13", "bad.toml:16"):
        assert f"{place}  " in said, said
    assert said.count("->") == said.count("wrong") + said.count("look  ")
    assert "Did you mean sizes?" in said
    assert "a gateway refuses this file" in said


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("currency", "currencies"), (1, "currencies", False)),
        (('"hd/2048x2048" = "0.35"\n', ""), (8, "prices", False)),
        (('"hd/2048x2048"', '"hd/4096x4096"'), (11, "prices", False)),
        (('default_model = "a"', 'default_model = "z"'), (2, "default_model", True)),
        (('name = "a"', 'name = "a"\naliases = ["b"]'), (14, "name", True)),
        (('name = "a"', 'name = "a"\nalias_patterns = ["*"]'), None),
        (('name = "a"', 'name = "a"\nsize_aliases = { x = "9x9" }'), (5, "size_aliases", True)),
        (('name = "a"', 'name = "a"\nreferences = -1'), (5, "references", True)),
        (('name = "a"', 'name = "a"\nreferences = 99'), (5, "references", True)),
        (('name = "a"', 'name = "a"\nreference_price = "0.1"'), (5, "reference_price", False)),
        (('name = "a"', 'name = "a"\nreference_price = "dear"'), (5, "reference_price", True)),
        (
            ('name = "a"', 'name = "a"\nreferences = 1\nreference_field = "prompt"'),
            (6, "reference_field", True),
        ),
        (('name = "a"', 'name = "a"\nreferences = 1\nreference_price = "0.1"'), None),
    ],
)
def test_each_kind_of_mistake_has_its_line(
    change: tuple[str, str], found: tuple[int, str, bool] | None
) -> None:
    text = GOOD.replace(*change) + OTHER

    assert found in remarks(text) if found else remarks(text) == []


def test_names_that_only_seem_to_mean_one_model_are_pointed_out() -> None:
    off = OTHER + "enabled = false\n"
    hidden = GOOD.replace('name = "a"', 'name = "a"\naliases = ["b"]')
    matched = GOOD.replace('name = "a"', 'name = "a"\naliases = ["gpt-1"]')

    assert (5, "aliases", False) in remarks(hidden + off)
    assert (5, "aliases", False) in remarks(matched + OTHER + 'alias_patterns = ["gpt-*"]\n')


@pytest.mark.parametrize(
    "text", ["a = [", "", 'default_model = "a"', "models = 3", GOOD, GOOD + OTHER, "models = [1]"]
)
def test_the_check_refuses_exactly_what_a_gateway_refuses(text: str) -> None:
    try:
        expected: Any = parse_catalog(text)
    except CatalogError:
        expected = None

    assert review_catalog(text).catalog == expected


def test_a_file_that_is_not_there_or_no_toml_is_said_so(cli: Cli) -> None:
    (cli.path / "broken.toml").write_text('a = 1\nb = "\n')

    assert "cannot be read" in cli.refused("catalog", "check", "absent.toml", code=2)
    assert "broken.toml:2" in cli.run("catalog", "check", "broken.toml", code=1).stdout
    assert "koi, xai" in cli.refused("catalog", "show", "nothing", code=2)


@pytest.mark.parametrize(
    ("wrong", "line", "field"),
    [
        (PROVIDER.replace('"second"', '"main"'), 2, "name"),
        (PROVIDER.replace('"second"', '"Second One"'), 2, "name"),
        (PROVIDER.replace("api_key_env", "api_key"), 4, "api_key"),
        (PROVIDER.replace('api_key_env = "SECOND_API_KEY"\n', ""), 1, "api_key_env"),
        (PROVIDER + 'api_key_file = "second.key"\n', 6, "api_key_file"),
        (PROVIDER.replace("SECOND_API_KEY", "KOI_SECOND_API_KEY"), 4, "api_key_env"),
        (PROVIDER.replace("SECOND_API_KEY", "sk-1234567890"), 4, "api_key_env"),
        (PROVIDER.replace("60", "0"), 5, "rpm"),
        (PROVIDER.replace("60", '"60"'), 5, "rpm"),
        (PROVIDER + 'mode = "fast"\n', 6, "mode"),
        (PROVIDER + PROVIDER, 7, "name"),
        (PROVIDER.replace('name = "second"', 'name = "other"'), 17, "provider"),
    ],
)
def test_a_mistake_in_a_provider_is_named_with_its_line(wrong: str, line: int, field: str) -> None:
    first = GOOD.partition("[[models]]")[0]
    text = first + wrong + GOOD.removeprefix(first) + OF_SECOND
    lines = text.splitlines()
    found = [r for r in review_catalog(text).remarks if r.serious and r.field == field]

    of_model = lines.index('provider = "second"') + 1
    assert [r.line for r in found] == [of_model if field == "provider" else 2 + line]
    assert "sk-1234567890" not in "".join(r.text + r.fix for r in found)
    with pytest.raises(CatalogError):
        parse_catalog(text)


def test_the_check_reads_the_address_and_the_key_of_each_provider(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = GOOD.partition("[[models]]")[0]
    file = cli.path / "two.toml"
    file.write_text(first + PROVIDER + GOOD.removeprefix(first) + OF_SECOND)

    unset = cli.run("catalog", "check", "two.toml", code=1).stdout
    monkeypatch.setenv("SECOND_API_KEY", "sk-a-real-key-of-the-second")
    good = cli.json("catalog", "check", "two.toml")
    file.write_text(file.read_text().replace(".test/v1", ".test:99999/v1"))
    far = cli.run("catalog", "check", "two.toml", code=1).stdout
    file.write_text(file.read_text().replace(":99999", "").replace("https://api", "http://api"))
    plain = cli.run("catalog", "check", "two.toml", code=1).stdout
    cli.settings["KOI_ALLOW_PLAIN_UPSTREAM"] = "true"
    allowed = cli.json("catalog", "check", "two.toml")

    assert "two.toml:6  provider second: the variable SECOND_API_KEY is not set" in unset
    assert "-> Set that variable" in unset
    assert "Write api_key_env" not in unset
    assert good["usable"]
    assert good["remarks"] == []
    assert "two.toml:5  provider second: base_url has a port" in far
    assert "two.toml:5  provider second: base_url is plain http" in plain
    assert allowed["usable"]


def test_the_example_of_two_providers_can_be_used(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECOND_API_KEY", "sk-a-real-key-of-the-second")
    (cli.path / "two.toml").write_text(Path("deploy/two-providers.toml").read_text())

    review = cli.json("catalog", "check", "two.toml")

    assert review["remarks"] == []
    assert review["models"] == ["grok-imagine", "grok-imagine-direct"]


def test_a_key_may_stand_in_a_file_or_in_the_env_file(cli: Cli) -> None:
    first = GOOD.partition("[[models]]")[0]
    in_file = PROVIDER.replace('api_key_env = "SECOND_API_KEY"', 'api_key_file = "second.key"')
    for section in (PROVIDER, in_file):
        (cli.path / "two.toml").write_text(first + section + GOOD.removeprefix(first) + OF_SECOND)
        told = cli.run("catalog", "check", "two.toml", code=1).stdout
        assert "-> Set that variable" in told or "-> Put the whole key, alone, into that" in told
        (cli.path / ".env").write_text("SECOND_API_KEY=sk-of-the-second\n")
        (cli.path / "second.key").write_text("Bearer sk-of-the-second\n")

        assert cli.json("catalog", "check", "two.toml")["usable"]
        (cli.path / ".env").unlink()
        (cli.path / "second.key").unlink()
