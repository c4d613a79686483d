"""An empty option is most likely a script's unset variable: it must not come to mean everything."""

from pathlib import Path

import pytest

from tests.flow.command import Cli


@pytest.mark.parametrize("text", ["", " ", ","])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("keys create --user a --new", "--models"),
        ("keys set key_0", "--models"),
        ("usage", "--by"),
        ("usage", "--user"),
        ("usage", "--team"),
        ("tasks list", "--key"),
    ],
)
def test_a_list_of_nothing_is_refused(tmp_path: Path, command: str, option: str, text: str) -> None:
    said = Cli(tmp_path).refused(*command.split(), option, text, code=2)

    assert f"{option} needs a name" in said
    assert not (tmp_path / ".koi").exists()


@pytest.mark.parametrize(
    "words", ["keys create --user ann --new", "teams create art", "stop-spending --reason x"]
)
def test_a_command_that_makes_a_data_directory_says_so_once(tmp_path: Path, words: str) -> None:
    """In the wrong directory it would print a key that no running gateway knows."""
    cli = Cli(tmp_path)
    made = f"koi: {tmp_path / '.koi'} was not there and has been made"

    first = cli.run(*words.split())
    second = cli.run("users", "create", "bob")

    assert made in first.stderr
    assert "KOI_DATA_DIR has to name its directory" in first.stderr
    assert "has been made" not in first.stdout + second.stderr


@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("serve", "--host"),
        ("stop-spending", "--reason"),
        ("ledger adjust --images 1", "--job"),
        ("ledger adjust --images 1 --model grok-imagine", "--user"),
        ("ledger rebuild", "--journal"),
        ("ledger import-bill fees.csv", "--capability"),
        ("ledger import-bill fees.csv", "--id-column"),
    ],
)
def test_text_of_nothing_is_refused(tmp_path: Path, command: str, option: str, text: str) -> None:
    said = Cli(tmp_path, {"KOI_UPSTREAM_API_KEY": "sk-sandbox"}).refused(
        *command.split(), option, text, code=2
    )

    assert f"{option} is empty" in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("keys list --user", 1),
        ("users create --team", 2),
        ("resume --user", 1),
        ("resume --team", 1),
        ("stop-spending --reason x --user", 1),
        ("tasks list --status", 2),
        ("tasks list --since", 2),
        ("usage --until", 2),
        ("users create alice --images-per-day", 2),
        ("ledger export --since", 2),
        ("ledger import-bill", 2),
    ],
)
def test_a_name_of_nothing_is_nobody_s(tmp_path: Path, words: str, code: int) -> None:
    Cli(tmp_path).refused(*words.split(), "", code=code)
