"""The supervisor: exactly one server per data directory, however processes start and die."""

import os
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import structlog
from structlog.typing import FilteringBoundLogger

from app.adapters.embedded.aof import AOF_DIRECTORY, is_manifest_missing
from app.adapters.embedded.directory import StoreDirectory
from app.adapters.embedded.engine import (
    EngineSearch,
    StoreEngine,
    choose_engine,
    installed_servers,
    read_stamp,
    write_stamp,
)
from app.adapters.embedded.errors import EmbeddedStoreError, StoreNotStarted, StoreUnusable
from app.adapters.embedded.liveness import (
    PingReply,
    StoreFilesMonitor,
    find_server,
    find_stray_server,
    ping,
)
from app.adapters.embedded.lock_holder import is_lock_holder_dead
from app.adapters.embedded.server import StoreServer

START_TIMEOUT_S = 10.0
JOIN_INTERVAL_S = 0.01
WATCH_INTERVAL_S = 0.1
MIN_RESTART_PAUSE_S = 0.2
MAX_RESTART_PAUSE_S = 5.0
MIN_HEALTHY_UPTIME_S = 30.0
FAILURE_PAUSE_S = 1.0


class EmbeddedStore:
    """A durable Redis-compatible server on a unix socket, for as long as the context lasts.

    The first process on a data directory owns the server: it restarts it when it dies and stops it
    at `close`. Later ones attach, and one of them takes over when owner and server are gone.
    Ownership is a file lock that the server inherits, so two servers never share the files.
    """

    def __init__(
        self,
        data_dir: Path,
        log: FilteringBoundLogger | None = None,
        *,
        search: EngineSearch = installed_servers,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._data_dir = data_dir
        self._log: FilteringBoundLogger = log or structlog.get_logger("koi.store")
        self._search = search
        self._start_timeout_s = start_timeout_s
        self._stop = threading.Event()
        self._joined = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._directory: StoreDirectory | None = None
        self._monitor: StoreFilesMonitor | None = None
        self._engine: StoreEngine | None = None
        self._lock: int | None = None
        self._server: StoreServer | None = None
        self._started_at = 0.0
        self._pause_s = 0.0

    def start(self) -> None:
        """Begin without waiting. Raises `EmbeddedStoreError` for a directory that cannot be used;
        entering says all else, and `close` ends it."""
        _reject_stray_server(Path(os.path.realpath(self._data_dir / "store")))
        self._directory = StoreDirectory.prepare(self._data_dir)
        self._monitor = StoreFilesMonitor(self._directory.path, self._directory.socket)
        # The server dies with the thread that spawned it, not with its process: hence one
        # thread that spawns every server and lives until `close`.
        self._thread = threading.Thread(target=self._supervise, name="koi-store", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return when the store answers; an `EmbeddedStoreError` says why it does not."""
        if self._thread is None:
            self.start()
        try:
            self._joined.wait()
        except BaseException:
            self.close()
            raise
        if self._failure is not None:
            self.close()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server if this process owns it, else leave it running; safe to call again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    @property
    def gone(self) -> bool:
        """Whether the store's files were deleted or replaced while it runs: what is written now is
        lost once its process ends. Noticed within two seconds."""
        return self._monitor is not None and self._monitor.missing is not None

    @property
    def url(self) -> str:
        """`unix:///…`, percent-encoded, for a Redis client."""
        return f"unix://{quote(str(self._open_directory.socket))}"

    @property
    def owner(self) -> bool:
        """Whether this process holds the data directory's lock."""
        return self._lock is not None

    @property
    def engine(self) -> str:
        """Name and version of the running server, such as `valkey 9.1.2`."""
        engine = self._engine or read_stamp(self._open_directory.stamp)
        return "unknown" if engine is None else str(engine)

    @property
    def _open_directory(self) -> StoreDirectory:
        if self._directory is None:
            raise RuntimeError("the embedded store is not open")
        return self._directory

    def _supervise(self) -> None:
        try:
            self._join()
        except BaseException as failure:  # noqa: BLE001  raised again in `__enter__`
            self._failure = failure
            self._stop.set()
        finally:
            self._joined.set()
        while not self._stop.wait(WATCH_INTERVAL_S):
            try:
                self._watch()
            except Exception as failure:  # noqa: BLE001  the store must come back: try again
                bug = not isinstance(failure, EmbeddedStoreError)
                self._log.error("store_not_restarted", reason=str(failure), exc_info=bug)
                self._stop.wait(FAILURE_PAUSE_S)
        if self._server is not None:
            self._server.stop()
            self._log.info("store_stopped")
        self._release_lock()

    def _join(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not self._stop.is_set():
            if self._take_lock(create=True):
                self._start()
                return
            # Asked first: once the server has ended, its lock is gone and says nothing any more.
            ending = is_lock_holder_dead(self._open_directory.lock)
            answer = ping(self._open_directory.socket)
            if answer is PingReply.PONG and not ending:
                self._log.info("store_attached", engine=self.engine)
                return
            if answer is PingReply.LOADING:
                deadline = time.monotonic() + self._start_timeout_s
            if time.monotonic() > deadline:
                raise StoreNotStarted(
                    f"Another process holds {self._open_directory.path}, but its store does not "
                    "answer. End that gateway or its server process, then start again."
                )
            self._stop.wait(JOIN_INTERVAL_S)

    def _watch(self) -> None:
        self._check_files()
        if self._monitor is not None and not self._monitor.is_in_place():
            return
        if self._lock is None:
            if self._take_lock(create=False):
                self._log.warning("store_taken_over")
                self._start_or_release_lock()
        elif not self._is_server_alive:
            self._restart()

    def _check_files(self) -> None:
        monitor = self._monitor
        if monitor is None or (self._lock is not None and not self._is_server_alive):
            return
        before = monitor.missing
        monitor.check()
        if monitor.missing and not before:
            fix = "put the directory back, or restart and run `koi ledger rebuild`"
            self._log.error(
                "store_files_gone",
                missing=monitor.missing,
                path=str(self._open_directory.path),
                fix=fix,
            )
        elif before and not monitor.missing:
            self._log.warning("store_files_found_again", path=str(self._open_directory.path))

    @property
    def _is_server_alive(self) -> bool:
        return self._server is not None and self._server.is_alive

    def _restart(self) -> None:
        if self._server is not None:
            self._log.error("store_died", status=self._server.exit_status)
            self._server = None
        if time.monotonic() - self._started_at > MIN_HEALTHY_UPTIME_S:
            self._pause_s = 0.0
        pause_s = self._pause_s
        self._pause_s = min(max(2 * pause_s, MIN_RESTART_PAUSE_S), MAX_RESTART_PAUSE_S)
        if not self._stop.wait(pause_s):
            self._start()

    def _start_or_release_lock(self) -> None:
        try:
            self._start()
        except EmbeddedStoreError:
            # Another process may have the engine or the permissions that this one lacks.
            self._server = None
            self._release_lock()
            raise

    def _start(self) -> None:
        began = self._started_at = time.monotonic()
        if is_manifest_missing(self._open_directory.path / AOF_DIRECTORY):
            raise StoreNotStarted(
                f"The log in {self._open_directory.path / AOF_DIRECTORY} has lost its manifest, "
                "and the server would overwrite it with an empty one. Run `koi store repair`: it "
                "saves what can be read."
            )
        engine = choose_engine(self._search, read_stamp(self._open_directory.stamp))
        write_stamp(self._open_directory.stamp, engine)
        # Remember the server before anything else can fail: a forgotten one would share its files
        # with the next one, since both inherit the lock.
        server = self._server = StoreServer.spawn(engine, self._open_directory, self._held_lock)
        server.wait_until_ready(self._stop, self._start_timeout_s)
        self._engine = engine
        took_ms = round((time.monotonic() - began) * 1000)
        self._log.info("store_started", engine=self.engine, pid=server.pid, took_ms=took_ms)

    def _take_lock(self, *, create: bool) -> bool:
        self._lock = self._open_directory.try_lock(create=create)
        if self._lock is None:
            return False
        # A server holds the lock of its directory. One without it lost the file, and the data.
        pid = find_server(self._open_directory.path)
        if pid is not None:
            self._release_lock()
            raise _stray_server(self._open_directory.path, pid)
        return True

    @property
    def _held_lock(self) -> int:
        if self._lock is None:
            raise RuntimeError("only the holder of the lock may start the server")
        return self._lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _reject_stray_server(path: Path) -> None:
    """Refuse a second store on this path: some callers would reach one and some the other."""
    pid = find_stray_server(path)
    if pid is not None:
        raise _stray_server(path, pid)


def _stray_server(path: Path, pid: int) -> StoreUnusable:
    return StoreUnusable(
        f"A store runs on {path} (process {pid}), but its files were deleted or moved while it "
        "ran: what it holds is lost once it ends. Move them back; or stop that gateway, start it "
        "again and run `koi ledger rebuild` with every journal that is left."
    )
