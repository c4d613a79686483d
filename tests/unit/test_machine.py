"""How much one process carries on which machine."""

import resource
from pathlib import Path

import pytest

from app import machine
from app.settings import build_settings

GIB = 1 << 30


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says the memory of a container, for which nothing is said at first."""
    file = tmp_path / "memory.max"
    file.write_text("max\n")
    monkeypatch.setattr(machine, "MEMORY_LIMIT_FILES", (file, tmp_path / "missing"))
    return file


def test_half_of_the_memory_is_for_generations(
    limit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "max_open_files", lambda: 65_536)
    limit.write_text(f"{GIB // 2}\n")

    assert machine.memory_bytes() == GIB // 2
    assert machine.max_in_flight(1) == 4096
    assert machine.max_in_flight(4) == 1024


def test_a_small_machine_and_a_large_one_have_bounds(
    limit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "max_open_files", lambda: 1024)
    assert machine.max_in_flight(1) == machine.MIN_IN_FLIGHT

    monkeypatch.setattr(machine, "max_open_files", lambda: 65_536)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 50)
    assert machine.max_in_flight(1) == machine.MAX_IN_FLIGHT


def test_open_files_count(limit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 50)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 7024))

    assert machine.max_in_flight(1) == 2000


def test_a_value_that_is_set_is_what_it_says() -> None:
    key = "sk-any-key"

    assert build_settings(upstream_api_key=key, max_in_flight=7).max_in_flight == 7
    assert build_settings(upstream_api_key=key, workers=2).max_in_flight == machine.max_in_flight(2)
