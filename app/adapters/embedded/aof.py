"""The files of the server's append-only log, and how far each can be read.

Layout and format are those of Redis 7.0 and Valkey: a manifest, a base (a snapshot, or commands)
and the commands since then, as RESP arrays. The writes of a script are between MULTI and EXEC.
"""

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

AOF_DIRECTORY = "appendonlydir"
MANIFEST = "appendonly.aof.manifest"
LOG_FILE_NAME = re.compile(r"appendonly\.aof\.(\d+)\.(?:(base)\.(?:rdb|aof)|incr\.aof)")
MAX_VALUE_BYTES = 512 * 1024 * 1024
"""The server takes no longer value, so a longer length in the log is damage."""


@dataclass(frozen=True, slots=True)
class RecoveredLog:
    """How much of a damaged log was copied: `kept` of `whole` bytes, and why not all."""

    kept: int
    whole: int
    why: str = ""


def parse_manifest(manifest: str) -> list[str]:
    """The files a manifest lists, the base first. Raises `ValueError` when it is no manifest."""
    rows = [line.split() for line in manifest.splitlines() if line and not line.startswith("#")]
    if any(len(row) < 6 or (row[0], row[2], row[4]) != ("file", "seq", "type") for row in rows):
        raise ValueError("this is no manifest")
    order = {"b": 0, "i": 1}
    used = [row for row in rows if row[5] in order]  # the server deletes the others
    return [row[1] for row in sorted(used, key=lambda row: (order[row[5]], int(row[3])))]


def is_manifest_missing(log: Path) -> bool:
    """Whether there are log files that the server would not read but overwrite."""
    found = any(LOG_FILE_NAME.fullmatch(file.name) for file in log.glob("*"))
    return found and not (log / MANIFEST).exists()


def copy_readable_log(damaged: Path, into: Path) -> RecoveredLog:
    """Copy a log up to its first damage. Later commands depend on what was lost and must not be
    used. An unreadable base is not noticed here; the server refuses it. Raises `OSError`.
    """
    into.mkdir(mode=0o700)
    names, why = _list_log_files(damaged)
    whole = sum(file.stat().st_size for file in damaged.glob("appendonly.aof.*[bf]"))
    kept = 0
    copied: list[str] = []
    for name in names:
        if not (damaged / name).is_file():
            why = f"{name} is missing"
            break
        size = (damaged / name).stat().st_size
        good = size if name.endswith(".rdb") else count_readable_bytes(damaged / name)
        _copy_prefix(damaged / name, into / name, good)
        copied.append(name)
        kept += good
        if good < size:
            why = f"{name} is damaged at byte {good} of {size}"
            break
    if not copied or ".base." not in copied[0]:
        return RecoveredLog(0, whole, why or "there is no base")
    (into / MANIFEST).write_text("".join(map(_manifest_line, copied)))
    return RecoveredLog(kept, whole, why)


def count_readable_bytes(path: Path) -> int:
    """Up to which byte a log of commands is whole, an unfinished transaction left out."""
    good = 0
    open_transaction = False
    with path.open("rb") as file:
        while True:
            command = _read_command(file)
            if command is None:
                return good
            if command == b"MULTI":
                open_transaction = True
            elif command == b"EXEC":
                open_transaction = False
            if not open_transaction:
                good = file.tell()


def _list_log_files(damaged: Path) -> tuple[list[str], str]:
    """The log's files in order, and what is wrong with the manifest. Where it names no base that is
    there, files are listed only if their order is certain."""
    with suppress(OSError, ValueError):
        named = parse_manifest((damaged / MANIFEST).read_text())
        if named and (damaged / named[0]).is_file():
            return named, ""
    found = [file.name for file in damaged.glob("*") if LOG_FILE_NAME.fullmatch(file.name)]
    bases = [name for name in found if ".base." in name]
    logs = [name for name in found if ".base." not in name]
    sure = len(bases) == 1 and len(logs) <= 1
    return (bases + logs if sure else []), "its manifest is missing or damaged"


def _read_command(file: BinaryIO) -> bytes | None:
    """The next command's name; None at the end, or where there is no whole command."""
    line = file.readline(64)
    while line.startswith(b"#"):
        while line and not line.endswith(b"\n"):
            line = file.readline(64)
        line = file.readline(64)
    count = _parse_length(line, b"*")
    if not count:
        return None
    words = [_read_bulk_string(file) for _ in range(count)]
    return None if None in words else (words[0] or b"").upper()


def _read_bulk_string(file: BinaryIO) -> bytes | None:
    length = _parse_length(file.readline(64), b"$")
    if length is None or length > MAX_VALUE_BYTES:
        return None
    word = file.read(length + 2)
    return word[:-2] if len(word) == length + 2 and word.endswith(b"\r\n") else None


def _parse_length(line: bytes, mark: bytes) -> int | None:
    whole = line.startswith(mark) and line.endswith(b"\r\n") and line[1:-2].isdigit()
    return int(line[1:-2]) if whole else None


def _copy_prefix(source: Path, target: Path, size: int) -> None:
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.truncate(size)
    target.chmod(0o600)


def _manifest_line(name: str) -> str:
    found = LOG_FILE_NAME.fullmatch(name)
    number = found[1] if found else "1"
    return f"file {name} seq {number} type {'b' if '.base.' in name else 'i'}\n"
