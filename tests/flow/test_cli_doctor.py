"""`koi doctor`: what it finds, with nothing running and with everything running."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.adapters.embedded.engine import choose_engine, installed_servers
from app.adapters.embedded.liveness import PingReply, ping
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, served_by
from tests.harness import quick_sandbox
from tests.ports import free_port


@pytest.fixture(scope="module")
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def cli(provider: Sandbox, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {**served_by(provider.url), "KOI_PORT": str(free_port())})


def found(cli: Cli, code: int = 0) -> list[dict[str, Any]]:
    return cli.json("doctor", code=code)


def about(findings: list[dict[str, Any]], check: str, status: str) -> str:
    """The text and the mend of the one finding of that kind."""
    [finding] = [f for f in findings if (f["check"], f["status"]) == (check, status)]
    return f"{finding['text']} {finding['mend']}"


def test_a_good_deployment_is_all_ok_although_nothing_runs(cli: Cli) -> None:
    findings = json.loads(cli.process("doctor", "--json").stdout)

    assert {finding["status"] for finding in findings} == {"ok"}
    assert {finding["check"] for finding in findings} == {
        *("settings", "time zone", "data directory", "journal", "store", "books", "catalog"),
        *("image store", "gateways", "provider", "port", "backup", "notices"),
    }


def test_it_says_what_runs_and_what_to_fix_in_words(cli: Cli) -> None:
    del cli.settings["KOI_CATALOG"]
    with cli.forked() as serving:
        cli.settings |= {"KOI_PORT": serving.url.rpartition(":")[2], "KOI_UPSTREAM_RPMS": "1"}

        text = cli.text("doctor")

    assert "a gateway answers there" in text
    assert "no price is known for grok-imagine" in text
    assert "KOI_UPSTREAM_RPMS is not a setting" in text
    assert text.splitlines()[-1].endswith("2 to look at, 0 to fix")


def test_another_server_on_the_port_is_no_gateway(cli: Cli, provider: Sandbox) -> None:
    """The stand-in provider names its requests as a gateway does."""
    cli.settings["KOI_PORT"] = str(urlsplit(provider.url).port)

    done = cli.run("doctor", code=1)

    assert f"port {cli.settings['KOI_PORT']} cannot be used" in done.stdout


def test_a_misspelt_line_of_the_env_file_is_named(cli: Cli) -> None:
    (cli.path / ".env").write_text(
        "export KOI_UPSTREAM_RPMS=1\nkoi_journal_day=9\nKOI_WORKERS=1\nOTHER=1\n"
    )

    named = [f["text"] + f["mend"] for f in found(cli) if f["status"] == "warn"]
    (cli.path / ".env").chmod(0o666)
    unread = [f["text"] for f in found(cli) if f["status"] == "warn"]

    assert named == [
        "KOI_UPSTREAM_RPMS is not a setting of KoiDid you mean KOI_UPSTREAM_RPM?",
        "koi_journal_day is not a setting of KoiDid you mean KOI_JOURNAL_DAYS?",
    ]
    assert len(unread) == 1
    assert "is not read" in unread[0]


def test_settings_that_cannot_be_used_are_the_only_finding(tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"KOI_PORT": "http", "KOI_ADMIN_KEY": "tell-no1"})

    findings = found(cli, code=1)

    assert [finding["check"] for finding in findings] == ["settings"]
    assert "KOI_PORT" in findings[0]["text"]
    assert "tell-no1" not in str(findings)


def test_an_upstream_key_the_provider_refuses_is_found(cli: Cli) -> None:
    cli.settings["KOI_UPSTREAM_API_KEY"] = "sk-of-somebody-else"

    told = about(found(cli, code=1), "provider", "fail")

    assert "refuses the upstream key (401)" in told
    assert "sk-of-somebody-else" not in told


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/v1", "cannot be reached"),
        ("https://no-such-host.invalid/v1", "cannot be resolved"),
    ],
)
def test_a_provider_that_cannot_be_reached_is_found(cli: Cli, url: str, says: str) -> None:
    cli.settings["KOI_UPSTREAM_BASE_URL"] = url

    assert says in about(found(cli, code=1), "provider", "fail")


def test_a_provider_without_tls_behind_https_is_found(cli: Cli, provider: Sandbox) -> None:
    cli.settings["KOI_UPSTREAM_BASE_URL"] = provider.url.replace("http:", "https:")

    assert "TLS" in about(found(cli, code=1), "provider", "fail")


def test_a_port_that_somebody_else_has_is_found(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cli.settings["KOI_PORT"] = str(taken.getsockname()[1])

        assert "cannot be used" in about(found(cli, code=1), "port", "fail")


def test_a_data_directory_that_cannot_be_made_is_found(cli: Cli) -> None:
    (cli.path / "file").write_text("in the way")
    cli.settings["KOI_DATA_DIR"] = "file/below"

    assert "cannot be written" in about(found(cli, code=1), "data directory", "fail")


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[str]:
    """A server as a cache is usually set up: nothing on disk, evicting when full."""
    program = choose_engine(installed_servers, None).program
    path = tmp_path / "s"
    options = {"port": "0", "unixsocket": str(path), "save": "", "maxmemory-policy": "allkeys-lru"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = subprocess.Popen(
        [str(program), *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while ping(path) is not PingReply.PONG:
        assert server.poll() is None
        time.sleep(0.01)
    yield f"unix://{path}"
    server.kill()
    server.wait()


def test_a_store_that_would_forget_the_ledger_is_found(cli: Cli, forgetful: str) -> None:
    cli.settings["KOI_REDIS_URL"] = forgetful

    failed = [finding for finding in found(cli, code=1) if finding["status"] == "fail"]

    assert [finding["check"] for finding in failed] == ["store", "store"]
    assert "no AOF" in failed[0]["text"]
    assert "allkeys-lru" in failed[1]["text"]


def test_a_cache_store_may_forget(cli: Cli, forgetful: str) -> None:
    cli.settings["KOI_CACHE_REDIS_URL"] = forgetful

    assert "answers" in about(found(cli), "cache store", "ok")


def test_a_store_that_is_away_is_found(cli: Cli) -> None:
    cli.settings["KOI_REDIS_URL"] = "redis://user:tell-no1@127.0.0.1:9"

    told = about(found(cli, code=1), "store", "fail")

    assert "does not answer" in told
    assert "tell-no1" not in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = [", "cannot be read"),
        ('default_model = "x"', "'models' is missing"),
        ('default_model = "x"\nmodels = 3', "list of tables"),
    ],
)
def test_a_catalog_that_cannot_be_read_is_told_under_catalog_in_words(
    cli: Cli, tmp_path: Path, text: str, says: str
) -> None:
    catalog = tmp_path / "mine.toml"
    catalog.write_text(text)
    cli.settings["KOI_CATALOG"] = str(catalog)

    told = about(found(cli, code=1), "catalog", "fail")

    assert says in told
    assert "Error(" not in told


def test_settings_that_are_hardly_meant_are_named(cli: Cli) -> None:
    cli.settings |= {
        "KOI_HOUSE_IMAGES_PER_DAY": "0",
        "KOI_UPSTREAM_TIMEOUT_S": "1",
        "KOI_UPSTREM_MODE": "sync",
    }

    warnings = [f["text"] + (f["mend"] or "") for f in found(cli) if f["status"] == "warn"]

    assert any("KOI_HOUSE_IMAGES_PER_DAY is 0" in text for text in warnings)
    assert any("KOI_UPSTREAM_TIMEOUT_S is 1 s" in text for text in warnings)
    assert any("Did you mean KOI_UPSTREAM_MODE?" in text for text in warnings)
