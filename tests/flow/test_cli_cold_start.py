"""A command loads and makes only what it needs. Times vary with the machine, modules do not."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from app.cli.command_tree import command_tree
from app.cli.overview import VERBS
from app.cli.serve_options import ServeOptions
from tests.flow.command import KOI, Cli

GATEWAY_ONLY = {
    *("fastapi", "starlette", "uvicorn", "httptools", "httpx", "prometheus_client", "rich"),
    *("PIL", "openai", "obstore", "brotli", "app.api", "app.sandbox", "app.recovery"),
    *("app.reconcile", "app.server", "app.adapters.upstream", "app.adapters.images"),
    *("app.wiring.gateway", "app.wiring.adapters", "app.telemetry.metrics"),
}
NOT_FOR_SERVING = {
    *("cyclopts", "rich", "pygments", "openai", "PIL", "obstore"),
    *("app.recovery.take_backup", "app.recovery.backup_file", "app.adapters.images.s3"),
    *("app.reconcile", "app.moving", "app.probe", "app.sandbox"),
}
STORE_ONLY = {"redis", "pydantic", "structlog", "asyncio", "app.settings", "app.wiring"}
SCRIPT = """
import sys
from app.cli.root import run
code = run(sys.argv[1:])
print("loaded", *sys.modules, file=sys.stderr)
sys.exit(code)
"""

MADE = """
import sys
from app.cli.root import run
code = run(sys.argv[1:])
from fastapi.openapi.models import OpenAPI
from pydantic.plugin import _loader
from app.adapters.redis.client.scripts import load_scripts
linked = [name for name, script in load_scripts("ledger").items() if "text" in vars(script)]
print("made", OpenAPI.__pydantic_complete__, _loader._plugins, *linked, file=sys.stderr)
sys.exit(code)
"""
FIRST_SCRIPTS = 20
"""Those that the loops of a gateway call when they begin, and some more."""


def loaded(path: Path, *words: str) -> set[str]:
    """The modules that a command loads, run as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=path,
        env=Cli(path).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    [said] = [line for line in done.stderr.splitlines() if line.startswith("loaded ")]
    assert done.returncode == 0, done
    return set(said.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["-h"], []], ids=" ".join)
def test_version_and_help_load_no_library(tmp_path: Path, words: list[str]) -> None:
    assert loaded(tmp_path, *words) & (GATEWAY_ONLY | STORE_ONLY | {"cyclopts"}) == set()


@pytest.mark.parametrize("words", ["users --help", "ledger import-bill --help", "serve --help"])
def test_the_help_of_a_command_loads_no_store(tmp_path: Path, words: str) -> None:
    kept = {"rich", "app.reconcile", "app.server", "app.recovery", "structlog", "asyncio"}

    assert loaded(tmp_path, *words.split()) & (GATEWAY_ONLY | STORE_ONLY) <= kept


@pytest.mark.parametrize("words", ["users list", "teams list --json", "keys list", "tasks list"])
def test_a_command_that_lists_loads_nothing_of_a_gateway(tmp_path: Path, words: str) -> None:
    assert loaded(tmp_path, *words.split()) & GATEWAY_ONLY == set()


def served(path: Path, script: str, *words: str) -> list[str]:
    """What a gateway says on standard error that is stopped once everything is loaded."""
    settings = {"KOI_UPSTREAM_API_KEY": "sk-real", "KOI_UPSTREAM_BASE_URL": "http://127.0.0.1:9/v1"}
    serving = subprocess.Popen(
        [sys.executable, "-c", script, "serve", "--port=0", *words],
        cwd=path,
        env={**Cli(path).environment, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert serving.stdout is not None
    # The check of the provider comes last.
    assert any('"provider_checked"' in line for line in serving.stdout)
    serving.terminate()
    _, said = serving.communicate(timeout=60)
    return said.splitlines()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_loads_nothing_of_commands_and_extras(tmp_path: Path, workers: str) -> None:
    said = served(tmp_path, SCRIPT, "--workers", workers)

    modules = {name for line in said if line[:7] == "loaded " for name in line.split()}
    assert {"app.server.run", "app.server.supervisor"} & modules
    assert NOT_FOR_SERVING & modules == set()


def test_a_gateway_makes_at_its_start_what_it_serves_with(tmp_path: Path) -> None:
    """Neither the models of the schema nor plugins, and only the scripts that it has called."""
    [made] = [line.split()[1:] for line in served(tmp_path, MADE) if line[:5] == "made "]

    schema_models_built, plugins, *scripts = made
    assert (schema_models_built, plugins) == ("False", "None")
    assert "register_gateway" in scripts
    assert len(scripts) <= FIRST_SCRIPTS


def test_options_that_are_not_plain_are_read_and_explained_as_ever(tmp_path: Path) -> None:
    cli = Cli(tmp_path)

    assert "--port" in cli.refused("serve", "--port", "70000", code=2)
    assert "--host" in cli.refused("serve", "--host", "", code=2)
    assert "--worker" in cli.refused("serve", "--worker", "2", code=2)
    assert "No upstream key" in cli.refused("serve", "--port=0", code=2)
    assert "No upstream key" in cli.refused("serve", "--host", "::1", "--workers", "2", code=2)


PLAIN = [
    ([], ServeOptions()),
    (["--port", "8000"], ServeOptions(port=8000)),
    (["--port=0", "--host", "0.0.0.0"], ServeOptions("0.0.0.0", 0)),
    (["--workers", "4", "--host=::1"], ServeOptions("::1", None, 4)),
    (["--port", "65535"], ServeOptions(port=65535)),
    (["--port=65536"], None),
    (["--port", "-1"], None),
    (["--port"], None),
    (["--port", "80", "--port", "81"], None),
    (["--host", "--port"], None),
    (["--workers", "0"], None),
    (["--help"], None),
    (["here"], None),
]


@pytest.mark.parametrize(("words", "options"), PLAIN)
def test_plain_options_are_read_without_cyclopts(
    words: list[str], options: ServeOptions | None
) -> None:
    assert ServeOptions.parse_plain(words) == options


@pytest.mark.parametrize("verb", VERBS)
def test_the_overview_has_the_first_line_of_each_verb(verb: str) -> None:
    whole = command_tree()[verb].help or command_tree()[verb].default_command.__doc__

    assert whole.partition("\n")[0] == VERBS[verb]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        *(("users list", 0), ("users show ann", 1), ("teams list", 0), ("teams show art", 1)),
        *(("keys list", 0), ("keys whose abcd", 1), ("tasks list", 0), ("tasks show task_0", 1)),
        *(("usage", 0), ("ledger check", 0), ("ledger export", 0), ("doctor", 1)),
    ],
)
def test_a_command_that_only_reads_makes_no_data_directory(
    tmp_path: Path, words: str, code: int
) -> None:
    done = Cli(tmp_path).run(*words.split(), code=code)

    assert list(tmp_path.iterdir()) == []
    assert words == "doctor" or ".koi is not there" in done.stderr


def test_a_command_that_changes_something_makes_the_data_directory(tmp_path: Path) -> None:
    Cli(tmp_path).run("users", "create", "ann")

    assert (tmp_path / ".koi/store").is_dir()
    assert "ann" in Cli(tmp_path).run("users", "list").stdout


def test_a_terminal_gets_a_table_of_its_width_and_a_pipe_one_line_a_row(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.run("keys", "create", "--user", "ann", "--new", "--name", "a [red]long[/red] name " * 5)

    piped = cli.process("keys", "list").stdout
    shown = on_terminal(cli, "keys", "list")

    assert "\x1b" not in piped
    assert len(piped.splitlines()) == 2
    assert "\x1b[1m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert len(plain) > 2
    assert all(len(line) <= 100 for line in plain)
    assert "[red]" in "".join(plain)


def on_terminal(cli: Cli, *words: str) -> str:
    """What a command prints on a terminal of 100 columns (`COLUMNS`)."""
    outer, inner = os.openpty()
    terminal = {"TERM": "xterm-256color"}
    with subprocess.Popen(
        [*KOI, *words], cwd=cli.path, env=cli.environment | terminal, stdout=inner
    ):
        os.close(inner)
        said = b""
        with suppress(OSError):  # the terminal's end, once the command has closed its own
            while piece := os.read(outer, 4096):
                said += piece
    os.close(outer)
    return said.decode()


@pytest.mark.parametrize(
    ("verb", "missing"), [("demo", "openai"), ("demo", "PIL"), ("sandbox", "PIL")]
)
def test_what_a_production_image_lacks_is_named(tmp_path: Path, verb: str, missing: str) -> None:
    hide = f"import sys; sys.modules[{missing!r}] = None; from app.cli.root import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", hide, verb],
        cwd=tmp_path,
        env=Cli(tmp_path).environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("koi: ")
    assert "pip install '.[demo]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
