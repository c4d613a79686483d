"""The `.env` file of the working directory: read only when no other user can have written it.

Whoever can write it decides to which host the upstream key is sent.
"""

import os
import stat
from pathlib import Path

DOTENV_PATH = Path(".env")


def is_loaded() -> bool:
    return os.path.exists(DOTENV_PATH) and find_distrust_reason() is None


def find_distrust_reason() -> str | None:
    """Why the file is not read, and what to do; None when it is read or does not exist."""
    try:
        found = DOTENV_PATH.stat()
    except OSError:
        return None
    where = DOTENV_PATH.absolute()
    if found.st_uid not in (os.geteuid(), 0):
        return f"{where} is not read: it belongs to another user; chown it to Koi's."
    others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid != os.getegid() else 0)
    if found.st_mode & others:
        return f"{where} is not read: others can write it; chmod go-w it."
    if not os.access(DOTENV_PATH, os.R_OK):
        return f"{where} is not read: this user may not; let Koi's user read it."
    return None
