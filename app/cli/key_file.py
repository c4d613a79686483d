"""The file that new keys are written into, for their holders' eyes only."""

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from app.cli.errors import CommandFailed, usage_error

if TYPE_CHECKING:
    from app.service.keys import IssuedKey

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class KeyFile:
    """A new CSV file, of its owner only: `user,name,key`. A key is on disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        """Raises `CommandFailed`, also when the file exists."""
        try:
            self._file = os.fdopen(os.open(path, FLAGS, 0o600), "w", encoding="utf-8", newline="")
        except FileExistsError:
            raise usage_error(f"{path} exists already: name a new file for the new keys.") from None
        except OSError as error:
            raise CommandFailed(f"{path} cannot be written ({error.strerror}).") from None
        self._rows = csv.writer(self._file, lineterminator="\n")

    def __enter__(self) -> Self:
        self._write(("user", "name", "key"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, issued: "IssuedKey") -> None:
        self._write((issued.key.user, issued.key.name, issued.secret))

    def _write(self, row: tuple[str, str, str]) -> None:
        self._rows.writerow(row)
        self._file.flush()
        os.fsync(self._file.fileno())
