"""Previews, each made by a process of its own that may die without harm."""

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from app.domain.media import PreviewFailed

WORKER = Path(__file__).with_name("preview_worker.py")
MAX_WORKERS = 2
TIMEOUT_S = 10.0
MAX_PREVIEW_BYTES = 1 << 20


class PreviewWorkers:
    """At most two at a time in one process; the others wait. `PreviewMaker` says what it does.

    A picture waits in `directory`, in a file without a name."""

    def __init__(self, directory: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._directory, self._timeout_s = directory, timeout_s
        self._slots = asyncio.Semaphore(MAX_WORKERS)
        self._threads = ThreadPoolExecutor(MAX_WORKERS, "koi-preview")
        self.available = find_spec("PIL") is not None

    async def make(self, slices: AsyncIterator[bytes], pixels: int) -> bytes:
        """See the port."""
        loop = asyncio.get_running_loop()
        async with self._slots:
            try:
                with tempfile.TemporaryFile(dir=self._directory) as file:
                    async for part in slices:
                        await loop.run_in_executor(self._threads, file.write, part)
                    return await loop.run_in_executor(self._threads, self._run, file, pixels)
            except OSError as error:
                raise PreviewFailed(f"no worker could be started ({error.strerror})") from error

    def _run(self, file: BinaryIO, pixels: int) -> bytes:
        file.seek(0)
        command = [sys.executable, "-I", "-B", str(WORKER), str(pixels)]
        with subprocess.Popen(  # noqa: S603 - our own interpreter and script
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        ) as process:
            alarm = threading.Timer(self._timeout_s, process.kill)
            alarm.start()
            try:
                assert process.stdout is not None
                made = process.stdout.read(MAX_PREVIEW_BYTES + 1)
                if len(made) > MAX_PREVIEW_BYTES:
                    process.kill()
                process.wait()
            finally:
                alarm.cancel()
        return _checked(made, process.returncode)


def _checked(made: bytes, code: int) -> bytes:
    """Raises `PreviewFailed`."""
    if code < 0:
        raise PreviewFailed(f"the worker ended by signal {-code}")
    if code > 0:
        raise PreviewFailed("the picture could not be decoded")
    if not (made[:4] == b"RIFF" and made[8:12] == b"WEBP") or len(made) > MAX_PREVIEW_BYTES:
        raise PreviewFailed("the worker gave no preview")
    return made
