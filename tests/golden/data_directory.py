"""The data directory of an earlier version, as if it had been written here and lately.

Its times are moved by whole seconds to a moment of the test's choice, so that the test means the
same on every day. Everything is replaced by what is equally long: the store's log counts bytes.
"""

import json
import os
import re
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "upgrade"
ARCHIVE, SHOWN, CATALOG = HERE / "directory.tar.gz", HERE / "shown.json", HERE / "catalog.toml"

DAY_MS = 86_400_000
BEFORE_MS, AFTER_MS = DAY_MS, 500 * DAY_MS
"""Numbers this far around the writing are times: the longest kept window ends after 400 days."""
NUMBER = re.compile(rb"(?<![0-9A-Za-z_.])(\d{16}|\d{13}|\d{10})(?![0-9A-Za-z_])")
ISO_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ISO_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
UNITS = {10: 1000, 13: 1, 16: 1 / 1000}
"""Digits of a time now -> its unit in milliseconds."""


@dataclass(frozen=True)
class Moved:
    """From when the directory was written, `first_ms` to `last_ms` of one day, to `by_ms` later."""

    first_ms: int
    last_ms: int
    by_ms: int

    @classmethod
    def to_age(cls, first_ms: int, last_ms: int, age_ms: int) -> "Moved":
        """So that its last change is that old, or somewhat older where midnight would split it."""
        wanted = int(time.time() * 1000) - age_ms
        took = last_ms - first_ms
        if wanted // DAY_MS != (wanted - took) // DAY_MS:
            wanted = wanted // DAY_MS * DAY_MS - 1000
        return cls(first_ms, last_ms, (wanted - last_ms) // 1000 * 1000)

    def apply(self, text: bytes) -> bytes:
        text = ISO_TIME.sub(self._iso, NUMBER.sub(self._number, text))
        for form, rest in (("%Y-%m-%d", rb"(?![T\d])"), ("%Y-%m", rb"(?![-\d])")):
            old, new = (_label(ms, form) for ms in (self.last_ms, self.last_ms + self.by_ms))
            text = re.sub(rb"(?<!\d)" + old + rest, new, text)
        return text

    def _number(self, found: re.Match[bytes]) -> bytes:
        unit = UNITS[len(found[0])]
        at_ms = int(found[0]) * unit
        if not self.first_ms - BEFORE_MS < at_ms < self.last_ms + AFTER_MS:
            return found[0]
        return b"%d" % (int(found[0]) + round(self.by_ms / unit))

    def _iso(self, found: re.Match[bytes]) -> bytes:
        at = datetime.strptime(found[0].decode(), ISO_FORMAT).replace(tzinfo=UTC)
        if not self.first_ms - BEFORE_MS < at.timestamp() * 1000 < self.last_ms + AFTER_MS:
            return found[0]
        return _label(round(at.timestamp() * 1000) + self.by_ms, ISO_FORMAT)


def _label(ms: int, form: str) -> bytes:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(form).encode()


@dataclass(frozen=True)
class DataDirectory:
    """`shown` is what the earlier version said of it, with its times moved too."""

    path: Path
    shown: Any

    @property
    def engine(self) -> str:
        """Which store engine wrote it."""
        return json.loads((self.path / "store" / "engine.json").read_text())["engine"]


def unpack(into: Path, *, age_s: float, provider_port: int) -> DataDirectory:
    """Links to pictures that it waits for lead to the provider at this port, which must have as
    many digits as the old one's."""
    written = json.loads(SHOWN.read_text())
    moved = Moved.to_age(written["first_ms"], written["last_ms"], round(age_s * 1000))
    ports = [str(port).encode() for port in written["provider_ports"]]
    with tarfile.open(ARCHIVE) as archive:
        for member in archive.getmembers():
            path = into / moved.apply(member.name.encode()).decode()
            if member.isdir():
                path.mkdir(mode=0o700, parents=True)
                continue
            file = archive.extractfile(member)
            assert file is not None
            path.write_bytes(_here(file.read(), moved, ports, provider_port, member.name))
            path.chmod(0o600)
            at_s = member.mtime + moved.by_ms / 1000
            os.utime(path, (at_s, at_s))
    return DataDirectory(into, json.loads(moved.apply(SHOWN.read_bytes())))


def _here(body: bytes, moved: Moved, ports: Sequence[bytes], port: int, name: str) -> bytes:
    if name.startswith("images/") or name.endswith(".rdb"):
        return body
    for old in ports:
        body = body.replace(b"127.0.0.1:" + old, b"127.0.0.1:%05d" % port)
    return moved.apply(body)
