"""Starting the gateway, in this process or in several under a supervisor."""

import gc
import resource
import socket
import threading
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from app import dotenv, machine
from app.cli.data_dir_owner import find_unusable_paths
from app.cli.errors import EXIT_USAGE, CommandFailed, translate_errors
from app.cli.lean_imports import load_fastapi, without_gc, without_unused_modules
from app.cli.output import print_notice
from app.cli.serve_options import ServeOptions
from app.cli.session import load_settings_as_owner
from app.server.listener import ListenFailed, listen, url_of

if TYPE_CHECKING:
    from app.settings import Settings

KILL_GRACE_S = 15.0
"""How long a worker may live beyond its own drain before it is killed."""


def start_gateway(options: ServeOptions) -> int:
    """Serve until told to stop; the exit code."""
    with without_gc():  # Until everything is loaded: `run_gateway` turns it on.
        settings = load_settings_as_owner(**asdict(options))
        _check_start(settings)
        _prepare_process()
        try:
            listening = listen(settings.host, settings.port)
        except ListenFailed as failure:
            raise CommandFailed(str(failure)) from None
        with listening, without_unused_modules():
            _check_catalog(settings)
            if settings.workers == 1:
                return _serve_alone(settings, listening)
            return _serve_supervised(settings, listening)


def _check_start(settings: "Settings") -> None:
    """Raises `CommandFailed` for what a start lacks."""
    if settings.upstream_key is None:
        raise CommandFailed(
            "No upstream key: set KOI_UPSTREAM_API_KEY (or KOI_UPSTREAM_API_KEY_FILE) to the "
            "provider's key, or try `koi demo`, which needs none.",
            EXIT_USAGE,
        )
    for sentence in find_unusable_paths(settings.data_dir, embedded=settings.redis_url is None):
        raise CommandFailed(sentence)
    _warn_of_unknown_settings()


@dataclass(frozen=True, slots=True)
class ListeningNotice:
    """Logs the address once the gateway listens there, then has the budgets, the provider and one's
    own store checked. That runs on a thread that nothing waits for: what does not answer delays
    neither the start nor the end."""

    url: str
    settings: "Settings"

    def __call__(self) -> None:
        import structlog  # noqa: PLC0415 - not for the help

        log = structlog.get_logger("koi.serve")
        env_file = str(dotenv.DOTENV_PATH.absolute()) if dotenv.is_loaded() else None
        log.info("listening", url=self.url, workers=self.settings.workers, env_file=env_file)
        threading.Thread(target=self._check, name="check store and provider", daemon=True).start()

    def _check(self) -> None:
        from app.wiring.check_machine import log_broken_budgets  # noqa: PLC0415 - after the start
        from app.wiring.check_provider import log_provider_check  # noqa: PLC0415

        log_broken_budgets(self.settings)
        if self.settings.redis_url is not None or self.settings.cache_redis_url is not None:
            from app.wiring.check_store import log_store_checks  # noqa: PLC0415

            log_store_checks(self.settings)
        log_provider_check(self.settings)


def _serve_alone(settings: "Settings", listening: socket.socket) -> int:
    """The embedded store starts while the gateway is imported."""
    from app.adapters.embedded import EmbeddedStore  # noqa: PLC0415 - not for the help
    from app.telemetry.logs import configure  # noqa: PLC0415

    configure(settings.log_format, settings.log_level)
    with translate_errors(), closing(EmbeddedStore(settings.data_dir)) as embedded:
        if settings.redis_url is None:
            embedded.start()
        load_fastapi()
        from app.server.run import run_gateway  # noqa: PLC0415 - heavy

        notice = ListeningNotice(url_of(listening), settings)
        return run_gateway(settings, listening, notice, embedded=embedded)


def _serve_supervised(settings: "Settings", listening: socket.socket) -> int:
    from app.server.supervisor import Supervisor  # noqa: PLC0415 - not for the help
    from app.server.worker import WorkerCommand  # noqa: PLC0415
    from app.telemetry.logs import configure  # noqa: PLC0415
    from app.telemetry.multiprocess import clear_stale_files  # noqa: PLC0415
    from app.wiring.stores import store  # noqa: PLC0415

    configure(settings.log_format, settings.log_level)
    with translate_errors(), store(settings):
        clear_stale_files(settings.data_dir / "metrics")
        port = listening.getsockname()[1]
        command = WorkerCommand(listening, settings.host, port, settings.workers)
        grace_s = settings.drain_delay_s + settings.drain_timeout_s + KILL_GRACE_S
        ListeningNotice(url_of(listening), settings)()
        gc.enable()
        return Supervisor(command.spawn, settings.workers, listening, grace_s).run()


def _check_catalog(settings: "Settings") -> None:
    """Before anything is started. The gateway reads it again."""
    with translate_errors():
        from app.provider_settings import open_further_providers  # noqa: PLC0415 - not for the help
        from app.wiring.catalog_file import read_catalog  # noqa: PLC0415

        open_further_providers(settings, read_catalog(settings))


def _prepare_process() -> None:
    """As many open files as allowed, since every caller and every upstream call needs one; and no
    core dump, which would contain every key."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (machine.max_open_files(), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _warn_of_unknown_settings() -> None:
    from app.settings import find_unknown_variables  # noqa: PLC0415

    if reason := dotenv.find_distrust_reason():
        print_notice(f"koi: {reason}")
    for name, nearest in find_unknown_variables().items():
        meant = f"did you mean {nearest}?" if nearest else "is it misspelt?"
        print_notice(f"koi: {name} is not a setting of Koi; {meant}")
