"""All settings of the gateway, read once from `KOI_…` variables, `.env` and secret files."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from app import dotenv
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.money import parse_micros
from app.domain.principal import CachePolicy
from app.settings_fields import Before, RuleBroken, Secret, read_setting, setting
from app.settings_validation import (
    DEFAULT_PORT,
    ENV_PREFIX,
    KUBERNETES_LINK,
    Amount,
    Count,
    SettingsInvalid,
    TimeZoneName,
    UpstreamMode,
    check_http_url,
    check_key,
    check_readable,
    check_store_url,
    check_upstream_scheme,
    explain_fault,
    find_nearest,
    parse_port,
)
from app.upstream_settings import check_base_url, check_key_characters, clean_base_url, clean_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Durations are seconds unless the name says otherwise; money is decimal text."""

    upstream_base_url: Annotated[str, clean_base_url] = "https://open.dieyuyun.com/v1"
    upstream_api_key: Secret | None = None
    upstream_api_key_file: Path | None = None
    allow_plain_upstream: bool = False
    upstream_mode: UpstreamMode = UpstreamMode.AUTO
    upstream_timeout_s: float = setting(180, gt=0)
    upstream_poll_interval_s: float = setting(3, gt=0)
    upstream_rpm: int | None = setting(None, gt=0)
    upstream_burst: int | None = setting(None, gt=0)
    upstream_concurrency: int | None = setting(None, gt=0)
    upstream_queue_s: float = setting(60, ge=0)

    redis_url: str | None = None
    cache_redis_url: str | None = None
    redis_timeout_ms: int = setting(500, gt=0)
    redis_connections: int = setting(32, ge=2)
    redis_replicas: int = setting(0, ge=0)
    data_dir: Path = Path(".koi")
    journal_days: float = setting(400, gt=0)

    host: str = "127.0.0.1"
    port: Annotated[int, Before(parse_port)] = setting(DEFAULT_PORT, ge=0, le=65535)
    workers: int = setting(1, ge=1)
    public_url: str | None = None
    allowed_hosts: str = "*"
    trusted_proxies: str = "127.0.0.1"
    cors_origins: str = "*"
    docs: bool = True
    admin_key: Secret | None = None
    metrics_token: Secret | None = None

    image_store: str = "file"
    image_ttl_days: float = setting(30, gt=0)
    image_max_mb: int = setting(100, gt=0, le=4096)
    allow_plain_pictures: bool = False
    link_ttl_s: int = setting(86_400, ge=3600)
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key_id: Secret | None = None
    s3_secret_access_key: Secret | None = None

    catalog: Path | None = None
    strict: bool = False
    response_format: ResponseFormat = ResponseFormat.URL
    max_images: int = setting(10, ge=1)
    moderation_charged: bool = False

    cache_policy: CachePolicy = CachePolicy.PRIVATE
    cache_ttl_s: int = setting(3600, gt=0)
    cache_variants: int = setting(10, ge=1)

    timezone: TimeZoneName = "UTC"
    sync_wait_s: float | None = setting(None, gt=0)
    concurrency_wait_s: float = setting(10, ge=0)
    heartbeat_after_s: float = setting(45, ge=0)
    task_deadline_s: float = setting(900, gt=0)
    task_ttl_s: int = setting(86_400, gt=0)
    collect_s: float = setting(86_400, gt=0)
    collect_wait_s: float = setting(30, gt=0)
    resolve_after_s: float = setting(900, ge=0)
    max_in_flight: int = setting(1000, gt=0)
    waiting_share: float = setting(0.25, gt=0, le=1)
    key_requests_per_second: float = setting(100, ge=0)
    key_reads_per_second: float = setting(50, ge=0)
    free_refusals_per_hour: int = setting(60, gt=0)
    replays_per_hour: int = setting(3600, gt=0)
    drain_delay_s: float = setting(0, ge=0)
    drain_timeout_s: float = setting(190, gt=0)

    default_images_per_day: Count = None
    default_images_per_month: Count = None
    default_budget_per_day: Amount = None
    default_budget_per_month: Amount = None
    default_requests_per_minute: Count = 120
    default_concurrency: Count = None
    house_images_per_day: Count = None
    house_images_per_month: Count = None
    house_budget_per_day: Amount = None
    house_budget_per_month: Amount = None
    house_requests_per_minute: Count = None
    house_concurrency: Count = None

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def default_limits(self) -> Limits:
        """Limits of a user created without any."""
        return Limits(
            self.default_images_per_day,
            self.default_images_per_month,
            _parse_micros(self.default_budget_per_day),
            _parse_micros(self.default_budget_per_month),
            self.default_requests_per_minute,
            self.default_concurrency,
        )

    @property
    def house_limits(self) -> Limits:
        """Limits of the whole deployment."""
        return Limits(
            self.house_images_per_day,
            self.house_images_per_month,
            _parse_micros(self.house_budget_per_day),
            _parse_micros(self.house_budget_per_month),
            self.house_requests_per_minute,
            self.house_concurrency,
        )

    @property
    def upstream_key(self) -> str | None:
        """The upstream key, from the variable or the file; None when neither is set."""
        if self.upstream_api_key is not None:
            return clean_key(self.upstream_api_key.get_secret_value()) or None
        if self.upstream_api_key_file is not None:
            return clean_key(self.upstream_api_key_file.read_text(encoding="utf-8")) or None
        return None


def _parse_micros(text: str | None) -> int | None:
    return None if text is None else parse_micros(text)


def _check_upstream_key(settings: Settings) -> Iterator[str]:
    name = "KOI_UPSTREAM_API_KEY"
    if settings.upstream_api_key is None:
        name += "_FILE"
        if next(check_readable(name, settings.upstream_api_key_file), None) is not None:
            return
    yield from check_key_characters(name, settings.upstream_key or "")


def _check_lifetimes(settings: Settings) -> Iterator[str]:
    images_s = settings.image_ttl_days * 86_400
    if settings.cache_ttl_s > images_s:
        yield "KOI_CACHE_TTL_S must not outlive KOI_IMAGE_TTL_DAYS; lower the first."
    if settings.cache_ttl_s > settings.task_ttl_s:
        yield "KOI_CACHE_TTL_S must not outlive KOI_TASK_TTL_S; lower the first."
    if settings.task_ttl_s > images_s:
        yield "KOI_TASK_TTL_S must not outlive KOI_IMAGE_TTL_DAYS; lower the first."


def _check_together(settings: Settings) -> Iterator[str]:
    """Rules that need a whole text, a file or several settings: one sentence each where broken."""
    yield from _check_lifetimes(settings)
    yield from check_key("KOI_ADMIN_KEY", settings.admin_key, at_least=16)
    yield from check_key("KOI_METRICS_TOKEN", settings.metrics_token, at_least=16)
    yield from check_key(
        "KOI_UPSTREAM_API_KEY", settings.upstream_api_key, at_least=1, clean=clean_key
    )
    yield from check_readable("KOI_UPSTREAM_API_KEY_FILE", settings.upstream_api_key_file)
    yield from check_readable("KOI_CATALOG", settings.catalog)
    yield from _check_upstream_key(settings)
    base_url = settings.upstream_base_url
    yield from check_http_url("KOI_UPSTREAM_BASE_URL", base_url)
    yield from check_upstream_scheme(base_url, allowed=settings.allow_plain_upstream)
    yield from check_base_url("KOI_UPSTREAM_BASE_URL", base_url)
    yield from check_http_url("KOI_PUBLIC_URL", settings.public_url)
    yield from check_store_url("KOI_REDIS_URL", settings.redis_url)
    yield from check_store_url("KOI_CACHE_REDIS_URL", settings.cache_redis_url)


SETTINGS = {declared.name: declared for declared in fields(Settings)}
"""Every setting by its name, in the order of the class."""


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; `overrides` (field names) win. Raises `SettingsInvalid`.

    An empty variable counts as not set. A `.env` that others could have written is not read.
    """
    given: dict[str, Any] = {}
    for source in (_read_dotenv(), os.environ):
        for variable, text in source.items():
            name = variable.upper().removeprefix(ENV_PREFIX).lower()
            if text and name in SETTINGS and variable.upper().startswith(ENV_PREFIX):
                given[name] = text
    return build_settings(**{**given, **overrides})


def build_settings(**values: Any) -> Settings:
    """Settings from `values` and defaults alone, without the environment and `.env`. Raises
    `SettingsInvalid`."""
    if unknown := values.keys() - SETTINGS.keys():
        raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
    faults: list[str] = []
    read: dict[str, Any] = {}
    for name, declared in SETTINGS.items():
        try:
            read[name] = read_setting(declared, values.get(name, declared.default))
        except (RuleBroken, ValueError) as broken:
            faults.append(explain_fault(declared, broken))
    settings = None if faults else Settings(**read)
    if settings is not None:
        faults.extend(_check_together(settings))
    if settings is None or faults:
        raise SettingsInvalid(tuple(faults))
    return settings


def find_unknown_variables() -> Mapping[str, str | None]:
    """`KOI_…` variables, of the environment or a `.env` that is read, that are no setting and most
    likely misspelt; each with the nearest real one. Those that Kubernetes sets for a service named
    koi are left out."""
    known = [ENV_PREFIX + name.upper() for name in SETTINGS]
    strangers = sorted(
        name
        for name in {*os.environ, *_read_dotenv()}
        if name.upper().startswith(ENV_PREFIX)
        and name.upper() not in known
        and not KUBERNETES_LINK.match(name)
    )
    return {name: find_nearest(name.upper(), known) for name in strangers}


def _read_dotenv() -> Mapping[str, str | None]:
    if not dotenv.is_loaded():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 - most deployments have no such file

    return dotenv_values(dotenv.DOTENV_PATH, encoding="utf-8")
