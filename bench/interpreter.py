"""A Python that was built with profile-guided optimisation, to measure beside the local one."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from bench.children import ChildFailed
from bench.cpu import interpreter_ms
from bench.peers import HOME

PROFILED_HOME = HOME / ".env-profiled"
REPOSITORY = HOME.parent
LOCK = REPOSITORY / "requirements.lock"
CANDIDATES = ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11")
FASTER = 0.85
"""Share of this interpreter's time for a fixed loop; distributions do not say in their build's
configuration that they use profiles, but it shows."""

MEASURE = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from bench.cpu import *; "
MEASURE += "print(interpreter_ms(), sys.version.split()[0])"


def install_profiled() -> str:
    """The interpreter of an environment with the locked production requirements and this checkout.

    Raises `ChildFailed` when this machine has no such Python, or when this is one."""
    python = PROFILED_HOME / "bin" / "python"
    stamp, wanted = PROFILED_HOME / "made", sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        found = next((path for path in CANDIDATES if _is_faster(path)), None)
        if found is None:
            raise ChildFailed("no Python 3.11 or newer in /usr/bin that is faster than this one")
        print("Installing Koi for a profile-guided Python into bench/.env-profiled ...", flush=True)
        _install(found, python)
        stamp.write_text(wanted)
    return str(python)


def _is_faster(path: str) -> bool:
    if not Path(path).exists():
        return False
    said = subprocess.run([path, "-c", MEASURE], capture_output=True, text=True, check=False)
    return said.returncode == 0 and float(said.stdout.split()[0]) < interpreter_ms() * FASTER


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
