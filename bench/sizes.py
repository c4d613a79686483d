"""Installed megabytes and lines of code."""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

from bench.litellm import LITELLM_HOME
from bench.portkey import PORTKEY_HOME

REPOSITORY = Path(__file__).parent.parent
LOCK = REPOSITORY / "requirements.lock"
CODE = (".py", ".lua")


def _locked() -> list[Distribution]:
    """The packages of the runtime lock that are installed here."""
    pinned = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==", LOCK.read_text(), re.MULTILINE)
    wanted = {_plain(name) for name in pinned}
    return [d for d in distributions() if _plain(d.metadata["Name"]) in wanted]


def locked_mb() -> float:
    """Megabytes on disk of a production install."""
    return sum(map(_size, _locked())) / 1e6


def locked_count() -> int:
    """Distributions of a production install, beside Koi."""
    return len(_locked())


def portkey_mb() -> float | None:
    """Megabytes of Portkey's own environment; None when it is not installed."""
    files = [path for path in PORTKEY_HOME.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files) / 1e6 if files else None


def litellm_mb() -> float | None:
    """Megabytes of LiteLLM's own environment, without pip; None when it is not installed."""
    places = [str(place) for place in LITELLM_HOME.glob("lib/python*/site-packages")]
    tools = {"pip", "setuptools"}
    found = [d for d in distributions(path=places) if _plain(d.metadata["Name"]) not in tools]
    return sum(map(_size, found)) / 1e6 if found else None


def lines_by_room() -> dict[str, int]:
    """Lines of Python and Lua that are not empty, by folder."""
    rooms: dict[str, int] = {}
    for top in ("app", "tests", "bench"):
        for path in sorted((REPOSITORY / top).rglob("*")):
            inner = path.relative_to(REPOSITORY).parts
            hidden = any(part.startswith(".") or part == "node_modules" for part in inner)
            if path.suffix not in CODE or hidden:
                continue
            room = "/".join(inner[:2]) if top == "app" and len(inner) > 2 else top
            text = path.read_text(encoding="utf-8")
            rooms[room] = rooms.get(room, 0) + sum(1 for line in text.splitlines() if line.strip())
    return rooms


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(distribution: Distribution) -> int:
    paths = (Path(str(file.locate())) for file in distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())
