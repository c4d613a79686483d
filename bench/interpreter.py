"""A Python that was built with profile-guided optimisation, to measure beside the local one."""

import shutil
import subprocess
import sysconfig
from hashlib import sha256
from pathlib import Path

from bench.children import ChildFailed
from bench.peers import HOME

PROFILED_HOME = HOME / ".env-profiled"
REPOSITORY = HOME.parent
LOCK = REPOSITORY / "requirements.lock"
CANDIDATES = ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11")
"""Debian's and Ubuntu's packages are built with profiles, as are the images of Python."""


def install_profiled() -> str:
    """The interpreter of an environment with the locked production requirements and this checkout.

    Raises `ChildFailed` when this machine has no such Python, or when this is one."""
    python = PROFILED_HOME / "bin" / "python"
    stamp, wanted = PROFILED_HOME / "made", sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
            raise ChildFailed("this Python was built with profiles itself")
        found = next((path for path in CANDIDATES if Path(path).exists()), None)
        if found is None:
            raise ChildFailed("the distribution has no Python 3.11 or newer in /usr/bin")
        print("Installing Koi for a profile-guided Python into bench/.env-profiled ...", flush=True)
        _install(found, python)
        stamp.write_text(wanted)
    return str(python)


def _install(found: str, python: Path) -> None:
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for command in (
        [found, "-m", "venv", "--clear", str(PROFILED_HOME)],
        [*pip, "--require-hashes", "-r", str(LOCK)],
        [*pip, "--no-deps", "--editable", str(REPOSITORY)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(PROFILED_HOME, ignore_errors=True)
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise ChildFailed(f"Koi could not be installed for {found}: {lines[-1][:200]}")
