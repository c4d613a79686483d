"""A client at work: its driver as a process that takes calls and answers them, many at once."""

import itertools
import json
import os
import subprocess
import tempfile
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeAlias

from tests.clients.catalog import Client

Said: TypeAlias = dict[str, Any]


class Driver:
    """Context manager; its process ends with it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Said]] = {}
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on exit

    def __enter__(self) -> "Driver":
        self._process = subprocess.Popen(
            self.client.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=_environment(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def begin(self, **call: Any) -> "Future[Said]":
        """Ask for one call; the future has what the client's user saw."""
        future: Future[Said] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = future
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": number, **call}) + "\n")
            self._process.stdin.flush()
        return future

    def call(self, within_s: float = 60, **call: Any) -> Said:
        """Make one call. Raises TimeoutError."""
        return self.begin(**call).result(within_s)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                said = json.loads(text)
                with self._lock:
                    future = self._waiting.pop(said["id"])
                if future.set_running_or_notify_cancel():
                    future.set_result(said)
        with self._lock:
            left, self._waiting = list(self._waiting.values()), {}
        for future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError(f"{self.client.name}: {self._last_words()}"))

    def _last_words(self) -> str:
        if self._log.closed:
            return ""
        self._log.seek(0)
        return self._log.read()[-2000:]


def _environment() -> dict[str, str]:
    """Nothing of ours that would steer a client; LiteLLM fetches no price list."""
    names = ("OPENAI_", "KOI_", "LITELLM_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    return clean | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}
