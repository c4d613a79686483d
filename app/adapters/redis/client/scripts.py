"""Scripts as values: the text of a `.lua` file with the key names and preludes put before it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from app.adapters.redis import keyspace

PRELUDE = "prelude"
"""What the names of the files begin with that go before every script of their folder."""


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str
    sha: str

    @property
    def writes(self) -> bool:
        return "no-writes" not in self.text.partition("\n")[0]


@cache
def load_scripts(folder: str) -> Mapping[str, Script]:
    """The scripts of one folder by name.

    A script opens with its `#!lua` line (Redis 7.0: the flags decide whether it may run on a full
    or read-only store), so the names and preludes go after it.
    """
    root = resources.files("app.adapters.redis") / "scripts"
    files = [file for file in (root / folder).iterdir() if file.name.endswith(".lua")]
    own = sorted((file for file in files if _shared(file)), key=lambda file: file.name)
    shared = [keyspace.lua_table(), (root / f"{PRELUDE}.lua").read_text()]
    shared += [file.read_text() for file in own]
    return {
        file.name.removesuffix(".lua"): _script(file, shared) for file in files if not _shared(file)
    }


def build_script(name: str, body: str, shared: list[str]) -> Script:
    flags, _, rest = body.partition("\n")
    text = "\n".join([flags, *shared, rest])
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)


def _shared(file: Traversable) -> bool:
    return file.name.startswith(PRELUDE)


def _script(file: Traversable, shared: list[str]) -> Script:
    return build_script(file.name.removesuffix(".lua"), file.read_text(), shared)


def script_names() -> Iterator[str]:
    """Every script's name, for whoever counts them."""
    root = resources.files("app.adapters.redis") / "scripts"
    for folder in root.iterdir():
        if folder.is_dir():
            yield from load_scripts(folder.name)
