"""What the store can be asked: Lua scripts, and plain commands where one of them is enough.

A script is the text of a `.lua` file after what it uses of the preludes (linker.py), with keys and
error codes as constants.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import resources

import hiredis

from app.adapters.redis import keyspace
from app.adapters.redis.client.linker import Part, constants_of, cut, link
from app.adapters.redis.replies import lua_error_codes

PRELUDE = "prelude"
"""Files whose name begins like this have what the scripts of their folder share."""

Argument = str | bytes | int


def packed_command(*words: Argument) -> bytes:
    """A command in RESP, the protocol's array of bulk strings."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # a tuple of one there
    return packed


@dataclass(frozen=True, eq=False)
class Script:
    """Its text is linked when it is first called: a start calls few scripts."""

    name: str
    flags: str
    """The first line of the text."""
    link: Callable[[], str]
    """The rest."""

    @cached_property
    def writes(self) -> bool:
        return "no-writes" not in self.flags

    @cached_property
    def text(self) -> str:
        return f"{self.flags}\n{self.link()}"

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

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
FIND_ANY = Command("find_any", "EXISTS")
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
    # Read now: later these may be the files of the version that this one is replaced with.
    texts = _read_texts(folder)
    own = [text for name, text in texts.items() if name.startswith(PRELUDE)]
    preludes = Preludes(provider, (_read_texts()[PRELUDE], *own))
    return {
        name: build_script(name, text, preludes)
        for name, text in texts.items()
        if not name.startswith(PRELUDE)
    }


def _read_texts(folder: str = "") -> dict[str, str]:
    """By name without its ending, in order."""
    files = (resources.files("app.adapters.redis") / "scripts" / folder).iterdir()
    found = [file for file in files if file.name.endswith(".lua")]
    return {
        file.name.removesuffix(".lua"): file.read_text()
        for file in sorted(found, key=lambda file: file.name)
    }


@dataclass(frozen=True, eq=False)
class Preludes:
    """What scripts share; cut into parts when the first of them is called."""

    provider: str | None = None
    texts: Sequence[str] = ()

    @cached_property
    def parts_and_constants(self) -> tuple[Sequence[Part], Mapping[str, str]]:
        keys, codes = keyspace.lua_table(self.provider), lua_error_codes()
        constants = constants_of(keys) | constants_of(codes)
        return cut((keys, codes, *self.texts), constants), constants

    def link(self, body: str) -> str:
        return link(body, *self.parts_and_constants)


def build_script(name: str, text: str, preludes: Preludes | None = None) -> Script:
    """Without preludes the text is whole."""
    flags, _, body = text.partition("\n")
    return Script(name, flags, partial(preludes.link if preludes else str, body))


def script_names() -> Iterator[str]:
    """The name of every script and command, for whoever counts them."""
    root = resources.files("app.adapters.redis") / "scripts"
    for folder in root.iterdir():
        if folder.is_dir():
            yield from load_scripts(folder.name)
    yield from (command.name for command in _COMMANDS)
