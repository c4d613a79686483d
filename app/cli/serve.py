"""`koi serve`: the gateway, in this process or in several under a supervisor."""

import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import structlog
from cyclopts import Parameter, validators

from app import dotenv
from app.cli.failure import MISUSED, CommandFailed
from app.cli.listener import listen, url_of
from app.cli.options import filled
from app.cli.out import note
from app.cli.owner import unusable
from app.cli.session import read_settings

if TYPE_CHECKING:
    from app.settings import Settings

log = structlog.get_logger("koi.serve")

MOST_FILES = 65_536
GRACE_S = 15.0
"""What a worker may need beyond its own drain before it is killed."""

Port = Annotated[
    int | None,
    Parameter(help="KOI_PORT; 0 takes a free one.", validator=validators.Number(gte=0, lte=65535)),
]
Workers = Annotated[
    int | None, Parameter(help="Processes; KOI_WORKERS.", validator=validators.Number(gte=1))
]


def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on; KOI_HOST.")] = None,
    port: Port = None,
    workers: Workers = None,
) -> int:
    """Run the gateway.

    SIGTERM, SIGHUP or Ctrl-C makes it finish what it paid for and end; a second one makes it hurry.

    Example: KOI_UPSTREAM_API_KEY=sk-… koi serve --host 0.0.0.0 --port 8000
    """
    settings = read_settings(host=filled("--host", host), port=port, workers=workers)
    if settings.upstream_key is None:
        raise CommandFailed(
            "No upstream key: set KOI_UPSTREAM_API_KEY (or KOI_UPSTREAM_API_KEY_FILE) to the "
            "provider's key, or try `koi demo`, which needs none.",
            MISUSED,
        )
    for sentence in unusable(settings.data_dir, embedded=settings.redis_url is None):
        raise CommandFailed(sentence)
    _warn_of_unknown()
    _prepare_process()
    with listen(settings.host, settings.port) as listening:
        if settings.workers == 1:
            return _alone(settings, listening)
        return _supervised(settings, listening)


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where to go, as one line once somebody is there; then `look` is had at the provider."""

    url: str
    workers: int
    look: Callable[[], None]

    def __call__(self) -> None:
        env_file = str(dotenv.DOTENV.absolute()) if dotenv.is_read() else None
        log.info("listening", url=self.url, workers=self.workers, env_file=env_file)
        self.look()


def _alone(settings: "Settings", listening: socket.socket) -> int:
    from app.cli.check_provider import look_at_start  # noqa: PLC0415 - heavy
    from app.cli.running import run_gateway  # noqa: PLC0415
    from app.telemetry.logs import configure  # noqa: PLC0415

    configure(settings.log_format, settings.log_level)
    announcement = Announcement(url_of(listening), 1, partial(look_at_start, settings))
    return run_gateway(settings, listening, announcement)


def _supervised(settings: "Settings", listening: socket.socket) -> int:
    from app.cli.check_provider import look_at_start  # noqa: PLC0415 - heavy
    from app.cli.explain import known_failures  # noqa: PLC0415
    from app.cli.supervisor import Supervisor  # noqa: PLC0415
    from app.cli.worker import WorkerCommand  # noqa: PLC0415
    from app.telemetry.logs import configure  # noqa: PLC0415
    from app.telemetry.slots import prepare_directory  # noqa: PLC0415
    from app.wiring import read_catalog, store  # noqa: PLC0415

    configure(settings.log_format, settings.log_level)
    with known_failures():
        read_catalog(settings)
    with known_failures(), store(settings):
        prepare_directory(settings.data_dir / "metrics")
        port = listening.getsockname()[1]
        command = WorkerCommand(listening, settings.host, port, settings.workers)
        grace_s = settings.drain_delay_s + settings.drain_timeout_s + GRACE_S
        look = partial(look_at_start, settings)
        Announcement(url_of(listening), settings.workers, look)()
        return Supervisor(command.spawn, settings.workers, listening, grace_s).run()


def _prepare_process() -> None:
    """As many open files as we are allowed, since every caller and every call is one; and no core
    dump, which would hold every key (reliability study, S33, S46)."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = MOST_FILES if files == resource.RLIM_INFINITY else min(files, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _warn_of_unknown() -> None:
    from app.settings import unknown_variables  # noqa: PLC0415

    if reason := dotenv.distrust():
        note(f"koi: {reason}")
    for name, nearest in unknown_variables().items():
        meant = f"did you mean {nearest}?" if nearest else "is it misspelt?"
        note(f"koi: {name} is not a setting of Koi; {meant}")
