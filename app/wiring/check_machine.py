"""What `koi doctor` checks without a network: settings, disk, clock, catalog and port."""

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import structlog

from app import dotenv
from app.domain.catalog import Catalog
from app.domain.check_result import CheckResult, fail, ok, warn
from app.service.check_prices import check_prices, find_broken_budgets
from app.settings import Settings, find_unknown_variables
from app.wiring.catalog_file import read_catalog

log = structlog.get_logger("koi.serve")
MIN_FREE_MB = 512
MIN_TIMEOUT_S = 30


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    yield ok("settings", "every setting can be used")
    for name, nearest in find_unknown_variables().items():
        fix = f"Did you mean {nearest}?" if nearest else "Correct its spelling or remove it."
        yield warn("settings", f"{name} is not a setting of Koi", fix)
    yield from _check_values(settings)
    if reason := dotenv.find_distrust_reason():
        yield warn("settings", reason, "Until then its settings are not in force.")
    url = urlsplit(settings.upstream_base_url)
    if url.scheme == "http" and not _is_local(url.hostname or ""):
        yield warn(
            "settings",
            "the upstream key travels unencrypted",
            "Set KOI_UPSTREAM_BASE_URL to an https:// address.",
        )
    if settings.admin_key is None:
        yield ok("settings", "no admin key: administration by this command only")


def _check_values(settings: Settings) -> Iterator[CheckResult]:
    """Values that are valid and most likely a mistake."""
    limits = settings.house_limits
    for field in fields(limits):
        if getattr(limits, field.name) == 0:
            variable = f"KOI_HOUSE_{field.name.upper().replace('MICROS', 'BUDGET')}"
            yield warn(
                "settings",
                f"{variable} is 0: nobody can generate anything",
                f"Remove {variable} if that is a mistake.",
            )
    if settings.upstream_timeout_s < MIN_TIMEOUT_S:
        yield warn(
            "settings",
            f"KOI_UPSTREAM_TIMEOUT_S is {settings.upstream_timeout_s:g} s: pictures take up to "
            "30 s, and a call that is given up is assumed to be billed",
            "Remove it, or set it to 60 or more.",
        )


def check_data_dir(settings: Settings) -> Iterator[CheckResult]:
    path = settings.data_dir.absolute()
    if not path.exists():
        yield _check_missing_data_dir(path)
        return
    try:
        with tempfile.TemporaryFile(dir=path) as trial:
            trial.write(b"koi")
            trial.flush()
            os.fsync(trial.fileno())
        free_mb = shutil.disk_usage(path).free // 1_000_000
    except OSError as error:
        fix = "Let this user own and write it, or set KOI_DATA_DIR to another directory."
        yield fail("data directory", f"{path} cannot be written ({error.strerror})", fix)
        return
    if free_mb < MIN_FREE_MB:
        fix = "Make room, or set KOI_DATA_DIR to a larger disk."
        yield warn("data directory", f"{path} has only {free_mb} MB left", fix)
    else:
        yield ok("data directory", f"{path}, {free_mb // 1000} GB free")


def _check_missing_data_dir(path: Path) -> CheckResult:
    """The doctor does not make it: it would belong to the doctor's user, not to the gateway's."""
    parent = next(parent for parent in path.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        fix = f"Let this user write {parent}, or set KOI_DATA_DIR to another directory."
        return fail("data directory", f"{path} cannot be made: {parent} cannot be written", fix)
    return ok("data directory", f"{path} is not there yet; the first start makes it")


def check_time_zone(settings: Settings) -> Iterator[CheckResult]:
    now = datetime.now(ZoneInfo(settings.timezone))
    day = f"{now:%Y-%m-%d %H:%M} ({now:%z})"
    yield ok("time zone", f"{settings.timezone}, now {day}; days and months begin there")


def check_catalog(catalog: Catalog, settings: Settings) -> Iterator[CheckResult]:
    names = ", ".join(model.name for model in catalog.enabled)
    yield ok("catalog", f"models on offer: {names}")
    yield from check_prices(catalog, house=settings.house_limits, default=settings.default_limits)


def log_broken_budgets(settings: Settings) -> None:
    """What a start is told in its log, because `koi doctor` is asked by few."""
    catalog = read_catalog(settings)
    limits = {"house": settings.house_limits, "default": settings.default_limits}
    for found in find_broken_budgets(catalog, **limits):
        log.warning("budget_cannot_be_kept", found=found.text, fix=found.fix)


def check_port(settings: Settings) -> Iterator[CheckResult]:
    path = f"{settings.host} port {settings.port}"
    if settings.port == 0:
        yield ok("port", f"{settings.host}, any free port")
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen(1)
    except OSError as error:
        if _is_gateway(settings.host, settings.port):
            yield ok("port", f"{path}: a gateway answers there")
            return
        fix = "End what listens there, or set KOI_HOST and KOI_PORT to another address."
        yield fail("port", f"{path} cannot be used ({error.strerror or error})", fix)
    else:
        yield ok("port", f"{path} is free")


def _is_gateway(host: str, port: int) -> bool:
    """Whether a Koi gateway listens there: its liveness answers without a key."""
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
    try:
        with socket.create_connection((reachable, port), timeout=1) as connection:
            connection.sendall(
                b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            # The head and the body may come apart; whatever else listens there may never end.
            answer = b"".join(connection.recv(4096) for _ in range(3))
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 ") and b'\r\n\r\n{"status":"' in answer


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host
