"""Whose the data directory is: commands work in its owner's name, whoever runs them.

Files that root made there could not be written by the service any more, and links that the service
planted there would be followed with root's rights.
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
from app.cli.failure import FAILED, CommandFailed

ROOT = 0
MADE_BY_THE_SERVICE = ("store", "journal", "images")
WRITTEN = ("journal", "journal/owed", "images")
WRITTEN_BY_THE_STORE = ("store", "store/lock", "store/engine.json", "store/server.log")
"""What a start must be able to write, where it is there already."""
READ = ("journal/id",)


class NotTheOwner(CommandFailed):
    """This process may not work in that directory, and how it could."""

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(f"{said}. {mend}", FAILED)
        self.said, self.mend = said, mend


@dataclass(frozen=True, slots=True)
class Owner:
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """As `sudo -u` takes it."""
        with suppress(KeyError):
            return pwd.getpwuid(self.uid).pw_name
        return f"#{self.uid}"


def owner_of(data_dir: Path) -> Owner | None:
    """None when there is no such directory yet.

    Some volumes belong to root and are written by a group; what the service made in one tells whose
    it is.
    """
    try:
        found = data_dir.stat()
    except OSError:
        return None
    if found.st_uid == ROOT:
        for name in MADE_BY_THE_SERVICE:
            with suppress(OSError):
                made = (data_dir / name).lstat()
                if stat.S_ISDIR(made.st_mode) and made.st_uid != ROOT:
                    return Owner(made.st_uid, made.st_gid)
    return Owner(found.st_uid, found.st_gid)


def act_as_owner(data_dir: Path) -> bool:
    """Become the owner when we are root; whether that changed anything. To be called before
    anything is opened. Raises `NotTheOwner` where it is not possible."""
    owner = owner_of(data_dir)
    if owner is None or owner.uid == os.geteuid():
        return False
    if os.geteuid() == ROOT:
        _become(owner)
        _can_work(owner, data_dir)
        return True
    if owner.uid == ROOT and os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        return False
    words = shlex.join(["sudo", "-u", owner.name, "koi", *sys.argv[1:]])
    raise NotTheOwner(
        f"{data_dir.absolute()} belongs to {owner.name}, and files made by another user would stop "
        "its gateway",
        f"Run this as {owner.name}: {words} (with the settings of the service; under systemd: "
        "koi-admin).",
    )


def unusable(data_dir: Path, *, embedded: bool) -> Iterator[str]:
    """What this process could not write or read there, one sentence each; opens nothing."""
    names = (*WRITTEN, *(WRITTEN_BY_THE_STORE if embedded else ()))
    wanted = [*((name, os.W_OK | os.R_OK) for name in names), *((name, os.R_OK) for name in READ)]
    for name, rights in [("", os.R_OK | os.W_OK | os.X_OK), *wanted]:
        place = data_dir.absolute() / name
        if os.path.islink(place) and not os.path.isdir(place):
            yield f"{place} is a symbolic link, which is not followed: remove it."
        elif os.path.lexists(place) and not os.access(place, rights):
            yield cannot_use(place)


def cannot_use(place: Path) -> str:
    owner, us = "another user", Owner(os.geteuid(), os.getegid()).name
    with suppress(OSError):
        found = place.lstat()
        owner = Owner(found.st_uid, found.st_gid).name
    return (
        f"{place} belongs to {owner} and cannot be used by {us}, who runs this. Give it back: "
        f"sudo chown -R {shlex.quote(us.removeprefix('#'))} {shlex.quote(str(place))}"
    )


def _become(owner: Owner) -> None:
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
        raise NotTheOwner(
            f"This runs as root but may not become {owner.name}, to whom the data directory "
            f"belongs ({error.strerror})",
            f"Run it as {owner.name}.",
        ) from None


def _can_work(owner: Owner, data_dir: Path) -> None:
    for needed, rights in ((sys.executable, os.X_OK), (app.__file__ or "", os.R_OK)):
        if not os.access(needed, rights):
            raise NotTheOwner(
                f"{data_dir.absolute()} belongs to {owner.name}, who cannot read Koi itself "
                f"({needed})",
                "Install it where every user can read it, such as /opt/koi.",
            )
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise NotTheOwner(
            f"{data_dir.absolute()} belongs to {owner.name}, who cannot reach it from here",
            "Run this where the service runs (under systemd: koi-admin, in a container: exec in "
            "it).",
        )
