"""The file of a backup: JSON lines in one gzip stream (deploy/README.md documents it).

The first line is the header, each further line one row `[kind, …]`, and the last row, `end`, holds
the position, the number of rows of each kind and the SHA-256 of all lines before it. So a file that
was cut or altered is noticed before anything is restored from it. The bytes of a picture follow its
row. Of several rows about one job or record the last one counts.
"""

import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from app.adapters.files import open_no_follow

FORMAT = 1
COMPRESSION_LEVEL = 4
MAX_LINE_BYTES = 64 << 20
MAX_PICTURE_BYTES = 1 << 30
BUFFER_BYTES = 1 << 20


class RowKind(StrEnum):
    """What a row holds, after its kind."""

    ENTRY = "entry"
    """Its id, and its fields as field, value, field, value …"""
    AUDIT = "audit"
    """A record of the audit log, in the same form."""
    JOB = "job"
    """Its fields in the same form, and until when it is kept (Unix ms), 0 while it is open."""
    GONE = "gone"
    """The id of a job that ended and is not kept any more."""
    RECORD = "record"
    """Family (users, teams, keys, stops or journals), name, and the record as JSON text."""
    USED = "used"
    """A key's id, and when it was used last (Unix ms)."""
    DELIVERY = "delivery"
    """A webhook or notice that waits: its fields in the same form, when it is due (Unix ms)."""
    PICTURE = "picture"
    """Name, when it was made (Unix ms), how many bytes follow."""
    END = "end"


class BackupDamaged(Exception):
    """This is no whole backup that can be read; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """`started_ms` by the clock of the machine that made it; `entries` is how many entries there
    were about then, None where the store could not say."""

    format: int
    data_version: int
    koi_version: str
    started_ms: int
    epoch: str
    seq: int
    entries: int | None
    pictures: bool

    def line(self) -> bytes:
        row = {name: getattr(self, name) for name in self.__slots__}
        return orjson.dumps({"koi": "backup", **row}) + b"\n"


@dataclass(frozen=True, slots=True)
class BackupEnd:
    """The moment that the backup holds: the ledger at `seq` of `epoch`, which continues the
    `earlier` ones up to their numbers; `taken_ms` by the store's clock."""

    epoch: str
    seq: int
    earlier: Mapping[str, int]
    taken_ms: int
    counts: Mapping[str, int]

    @property
    def name(self) -> str:
        """Two backups of one name hold the same."""
        return f"{self.epoch}.{self.seq}"


class _CountedFile:
    """A file that only grows; a pipe does not say how much it took."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        return self._out.write(data)

    def flush(self) -> None:
        self._out.flush()


class BackupWriter:
    """Every method raises `OSError` when the file cannot be written."""

    def __init__(self, out: BinaryIO, header: BackupHeader) -> None:
        self._out = _CountedFile(out)
        self._packed = gzip.GzipFile(
            filename="", mode="wb", fileobj=self._out, compresslevel=COMPRESSION_LEVEL
        )
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self._write(header.line())

    @property
    def size_bytes(self) -> int:
        """Written so far, compressed."""
        return self._out.size_bytes

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows as `[kind, …]`."""
        self._write(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        self.counts.update(str(row[0]) for row in rows)

    def add_picture(self, name: str, made_ms: int, body: bytes) -> None:
        self.add([(RowKind.PICTURE, name, made_ms, len(body))])
        self._write(body + b"\n")

    def finish(self, end: BackupEnd) -> None:
        row = {
            "epoch": end.epoch,
            "seq": end.seq,
            "earlier": dict(end.earlier),
            "taken_ms": end.taken_ms,
            "counts": dict(end.counts),
            "sha256": self._digest.hexdigest(),
        }
        self._write(orjson.dumps([RowKind.END, row]) + b"\n")
        self._packed.close()
        self._out.flush()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._packed.write(data)


Row = list[Any]
"""`[kind, …]`; of a picture `[kind, name, made_ms, body]`."""


class BackupReader:
    """Reads a backup once through. Iterating raises `BackupDamaged` at the first thing that is not
    as it was written, at the latest after the last row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._counts: Counter[str] = Counter()
        self.header = self._read_header()
        self.end: BackupEnd | None = None
        self.read_bytes = 0
        """Read so far, after decompression."""

    def __iter__(self) -> Iterator[Row]:
        self._digest, self._counts = hashlib.sha256(), Counter()
        self.end, self.read_bytes = None, 0
        try:
            with _opened(self._path) as lines:
                self._digest.update(self._read_line(lines))
                while self.end is None:
                    row = self._read_row(lines)
                    if row is not None:
                        yield row
                if lines.read(1):
                    raise BackupDamaged(f"{self._path} goes on after its end.")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _cut_short(self._path) from error

    def _read_header(self) -> BackupHeader:
        row: Any = None
        with suppress(gzip.BadGzipFile, zlib.error, ValueError), _opened(self._path) as lines:
            try:
                row = orjson.loads(lines.readline(MAX_LINE_BYTES))
            except EOFError as error:
                raise _cut_short(self._path) from error
        if not isinstance(row, dict) or row.get("koi") != "backup":
            raise BackupDamaged(f"{self._path} is no backup of Koi.")
        if row.get("format") != FORMAT:
            raise BackupDamaged(
                f"{self._path} was written by Koi {row.get('koi_version')} in the form "
                f"{row.get('format')}, and this Koi reads form {FORMAT}: use the newer Koi."
            )
        try:
            return BackupHeader(**{name: row[name] for name in BackupHeader.__slots__})
        except KeyError:
            raise BackupDamaged(f"The first line of {self._path} is incomplete.") from None

    def _read_row(self, lines: BinaryIO) -> Row | None:
        """None for the end."""
        line = self._read_line(lines)
        try:
            row: Row = orjson.loads(line)
            if row[0] == RowKind.END:
                self._check_end(row[1])
                return None
            self._digest.update(line)
            self._counts[row[0]] += 1
            return self._with_body(row, lines) if row[0] == RowKind.PICTURE else row
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise BackupDamaged(f"{self._path} has a line that cannot be read.") from error

    def _read_line(self, lines: BinaryIO) -> bytes:
        line = lines.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise _cut_short(self._path)
        self.read_bytes += len(line)
        return line

    def _with_body(self, row: Row, lines: BinaryIO) -> Row:
        kind, name, made_ms, size = row
        if not 0 <= size <= MAX_PICTURE_BYTES:
            raise ValueError("no picture is so large")
        body = lines.read(size + 1)
        if len(body) != size + 1:
            raise _cut_short(self._path)
        self.read_bytes += len(body)
        self._digest.update(body)
        return [kind, name, made_ms, body[:-1]]

    def _check_end(self, row: Mapping[str, Any]) -> None:
        if row["sha256"] != self._digest.hexdigest() or row["counts"] != dict(self._counts):
            raise BackupDamaged(f"{self._path} was altered: its checksum does not fit.")
        fields = ("epoch", "seq", "earlier", "taken_ms", "counts")
        self.end = BackupEnd(**{name: row[name] for name in fields})


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb", opener=open_no_follow) as raw, gzip.GzipFile(fileobj=raw) as unpacked:
        yield cast("BinaryIO", io.BufferedReader(unpacked, BUFFER_BYTES))


def _cut_short(path: Path) -> BackupDamaged:
    return BackupDamaged(
        f"{path} ends before its end: the backup was interrupted, or the copy of it. Nothing was "
        "restored from it."
    )
