"""The store's directory: its files, its lock, and a socket path short enough to bind."""

import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.adapters.embedded.errors import StoreUnusable
from app.adapters.files import open_no_follow

# A socket's path has at most 108 bytes on Linux and 104 on macOS; the server needs a few of them.
MAX_SOCKET_PATH_BYTES = 100
# Not TMPDIR of the environment: two processes of one user must find the same directory.
RUNTIME_ROOT = Path("/tmp")  # noqa: S108  a directory below it that others could write is refused


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """`<data directory>/store`, private to its user."""

    path: Path
    socket: Path

    @classmethod
    def prepare(cls, data_dir: Path) -> Self:
        """Create what is missing; `StoreUnusable` when that is not allowed."""
        path = data_dir.absolute() / "store"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
            path = path.resolve(strict=True)
            return cls(path, _choose_socket_path(path))
        except OSError as error:
            raise store_unusable(path, error) from error

    @staticmethod
    def release(lock: int) -> None:
        os.close(lock)

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def stamp(self) -> Path:
        return self.path / "engine.json"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def try_lock(self, *, create: bool) -> int | None:
        """Lock the directory; None when another process holds it. Close the descriptor to unlock.

        Who joined before does not `create` the file again: one that is gone was deleted under a
        server that runs, and says nothing about it. None then, too.

        The lock belongs to the open file: a server that inherits the descriptor keeps the directory
        locked as long as it lives, even after the death of this process.
        """
        try:
            lock = open_no_follow(str(self.lock), os.O_RDWR | (os.O_CREAT if create else 0))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_unusable(self.path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError as error:
            os.close(lock)
            raise store_unusable(self.path, error) from error
        return lock


def store_unusable(path: Path, error: OSError) -> StoreUnusable:
    """One sentence for all failures of the disk."""
    return StoreUnusable(
        f"The store cannot use {path} ({error.strerror or error}). Let the gateway's user own "
        "and write this directory on a local disk, or set KOI_DATA_DIR to another one, or set "
        "KOI_REDIS_URL to a server."
    )


def _choose_socket_path(path: Path) -> Path:
    socket = path / "store.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES:
        return socket
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    runtime = RUNTIME_ROOT / f"koi-{os.geteuid()}-{digest}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    found = runtime.lstat()
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not private or found.st_uid != os.geteuid():
        raise StoreUnusable(
            f"{runtime} is not a private directory of this user, so the store's socket cannot be "
            "put there. Remove it, or set KOI_DATA_DIR to a shorter path."
        )
    return runtime / "store.sock"
