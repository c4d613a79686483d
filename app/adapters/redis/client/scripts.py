"""What the store can be asked: Lua scripts, and plain commands where one of them is enough.

A script is the text of a `.lua` file, after the key names, the error codes and the preludes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import hiredis

from app.adapters.redis import keyspace
from app.adapters.redis.replies import lua_error_codes

PRELUDE = "prelude"
"""Files whose name begins like this go before every script of their folder."""

Argument = str | bytes | int


def packed_command(*words: Argument) -> bytes:
    """A command in RESP, the protocol's array of bulk strings."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # a tuple of one there
    return packed


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str
    sha: str

    @property
    def writes(self) -> bool:
        return "no-writes" not in self.text.partition("\n")[0]

    def packed(self, keys: Sequence[str], args: Sequence[Argument]) -> bytes:
        return packed_command("EVALSHA", self.sha, len(keys), *keys, *args)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the store, sent in the same pipelines as the scripts. `name` is what metrics
    call it. `takes_key` false: the key only says which node of a cluster is asked."""

    name: str
    verb: str
    takes_key: bool = True
    writes: bool = False

    def packed(self, keys: Sequence[str], args: Sequence[Argument]) -> bytes:
        return packed_command(self.verb, *(keys if self.takes_key else ()), *args)


CLOCK = Command("clock", "TIME", takes_key=False)
PUBLISH = Command("publish", "PUBLISH", takes_key=False)
READ_JOB = Command("job", "HGETALL")
FIND_OWNER = Command("find_owner", "GET")
LIST_ENTRIES = Command("entries", "XRANGE")
LIST_NEWEST_ENTRIES = Command("entries", "XREVRANGE")
NOTE_AUDIT = Command("note_audit", "HSET", writes=True)
READ_ROLLUP = Command("read_rollup", "GET")
LIST_RECORDS = Command("records", "HVALS")
READ_RECORD = Command("records", "HGET")
READ_FIELDS = Command("read_fields", "HMGET")
LIST_KEY_USE = Command("list_key_use", "HGETALL")
READ_DELIVERY = Command("read_delivery", "HGETALL")
LIST_UNDELIVERED = Command("list_undelivered", "HGETALL")
LIST_CHANGES = Command("list_changes", "XRANGE")
LATEST_CHANGE = Command("latest_change", "XREVRANGE")
UNREGISTER_GATEWAY = Command("unregister_gateway", "HDEL", writes=True)
NOTE_BACKUP = Command("note_backup", "HSET", writes=True)
READ_BACKUP = Command("read_backup", "HGETALL")

_COMMANDS = tuple(value for value in globals().values() if isinstance(value, Command))


def load_scripts(folder: str, provider: str | None = None) -> Mapping[str, Script]:
    """The scripts of one folder by name; those of the upstream limiter for a further `provider`
    have its keys.

    A script opens with its `#!lua` line (Redis 7.0: the flags decide whether it may run on a full
    or read-only store), so the names and preludes go after it.
    """
    return _load(folder, provider)


@cache
def _load(folder: str, provider: str | None) -> Mapping[str, Script]:
    root = resources.files("app.adapters.redis") / "scripts"
    files = [file for file in (root / folder).iterdir() if file.name.endswith(".lua")]
    own = sorted((file for file in files if _shared(file)), key=lambda file: file.name)
    shared = [
        keyspace.lua_table(provider),
        lua_error_codes(),
        (root / f"{PRELUDE}.lua").read_text(),
    ]
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
    """The name of every script and command, for whoever counts them."""
    root = resources.files("app.adapters.redis") / "scripts"
    for folder in root.iterdir():
        if folder.is_dir():
            yield from load_scripts(folder.name)
    yield from (command.name for command in _COMMANDS)
