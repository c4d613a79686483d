"""The owner of the data directory: commands run as this user, whoever starts them.

Files that root made there could not be written by the service any more, and a hijacked service
could plant links there that root would follow.
"""

import os
import pwd
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import app
from app.cli.errors import EXIT_FAILED, CommandFailed

ROOT_UID = 0
SERVICE_DIRECTORIES = ("store", "journal", "images")
WRITTEN_PATHS = ("journal", "journal/owed", "images")
STORE_WRITTEN_PATHS = ("store", "store/lock", "store/engine.json", "store/server.log")
"""What a start must be able to write, where it is there already."""
READ_PATHS = ("journal/id",)


class NotDataDirOwner(CommandFailed):
    """This process may not work in that directory; `fix` says who may."""

    def __init__(self, said: str, fix: str) -> None:
        super().__init__(f"{said}. {fix}", EXIT_FAILED)
        self.said, self.fix = said, fix


@dataclass(frozen=True, slots=True)
class DataDirOwner:
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """As `sudo -u` takes it."""
        with suppress(KeyError):
            return pwd.getpwuid(self.uid).pw_name
        return f"#{self.uid}"


def find_data_dir_owner(data_dir: Path) -> DataDirOwner | None:
    """None when there is no such directory yet.

    Some volumes belong to root and are written by a group; then the owner of what the service made
    in it counts.
    """
    try:
        found = data_dir.stat()
    except OSError:
        return None
    if found.st_uid == ROOT_UID:
        for name in SERVICE_DIRECTORIES:
            with suppress(OSError):
                made = (data_dir / name).lstat()
                if stat.S_ISDIR(made.st_mode) and made.st_uid != ROOT_UID:
                    return DataDirOwner(made.st_uid, made.st_gid)
    return DataDirOwner(found.st_uid, found.st_gid)


def act_as_owner(data_dir: Path) -> bool:
    """Become the owner when we are root; whether that changed anything. To be called before
    anything is opened. Raises `NotDataDirOwner` where it is not possible."""
    owner = find_data_dir_owner(data_dir)
    if owner is None or owner.uid == os.geteuid():
        return False
    if os.geteuid() == ROOT_UID:
        _switch_user(owner)
        _require_access(owner, data_dir)
        return True
    if owner.uid == ROOT_UID and os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        return False
    words = shlex.join(["sudo", "-u", owner.name, "koi", *sys.argv[1:]])
    raise NotDataDirOwner(
        f"{data_dir.absolute()} belongs to {owner.name}, and files made by another user would stop "
        "its gateway",
        f"Run this as {owner.name}: {words} (with the settings of the service; under systemd: "
        "koi-admin).",
    )


def find_unusable_paths(data_dir: Path, *, embedded: bool) -> Iterator[str]:
    """What this process could not write or read there, one sentence each; opens nothing."""
    names = (*WRITTEN_PATHS, *(STORE_WRITTEN_PATHS if embedded else ()))
    wanted = [
        *((name, os.W_OK | os.R_OK) for name in names),
        *((name, os.R_OK) for name in READ_PATHS),
    ]
    for name, rights in [("", os.R_OK | os.W_OK | os.X_OK), *wanted]:
        path = data_dir.absolute() / name
        if os.path.islink(path) and not os.path.isdir(path):
            yield f"{path} is a symbolic link, which is not followed: remove it."
        elif os.path.lexists(path) and not os.access(path, rights):
            yield explain_unusable_path(path)


def explain_unusable_path(path: Path) -> str:
    owner, us = "another user", DataDirOwner(os.geteuid(), os.getegid()).name
    with suppress(OSError):
        found = path.lstat()
        owner = DataDirOwner(found.st_uid, found.st_gid).name
    return (
        f"{path} belongs to {owner} and cannot be used by {us}, who runs this. Give it back: "
        f"sudo chown -R {shlex.quote(us.removeprefix('#'))} {shlex.quote(str(path))}"
    )


def _switch_user(owner: DataDirOwner) -> None:
    known = None
    with suppress(KeyError):
        known = pwd.getpwuid(owner.uid)
    try:
        if known is None:
            os.setgroups([])
            os.setgid(owner.gid)
        else:
            os.initgroups(known.pw_name, known.pw_gid)
            os.setgid(known.pw_gid)
        os.setuid(owner.uid)
    except OSError as error:
        raise NotDataDirOwner(
            f"This runs as root but may not become {owner.name}, to whom the data directory "
            f"belongs ({error.strerror})",
            f"Run it as {owner.name}.",
        ) from None


def _require_access(owner: DataDirOwner, data_dir: Path) -> None:
    for needed, rights in ((sys.executable, os.X_OK), (app.__file__ or "", os.R_OK)):
        if not os.access(needed, rights):
            raise NotDataDirOwner(
                f"{data_dir.absolute()} belongs to {owner.name}, who cannot read Koi itself "
                f"({needed})",
                "Install it where every user can read it, such as /opt/koi.",
            )
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise NotDataDirOwner(
            f"{data_dir.absolute()} belongs to {owner.name}, who cannot reach it from here",
            "Run this where the service runs (under systemd: koi-admin, in a container: exec in "
            "it).",
        )
