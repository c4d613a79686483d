"""All settings of the gateway, read once from `KOI_…` variables, `.env` and secret files."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource
from pydantic_settings import SettingsConfigDict as ConfigDict

from app import dotenv, machine
from app.address_settings import check_address_settings, check_http_url
from app.attribution_settings import AttributionSettings, check_attribution_settings
from app.delivery_settings import DeliverySettings, check_delivery_settings
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.money import parse_micros
from app.domain.principal import CachePolicy
from app.ledger_settings import LedgerSettings
from app.mcp_settings import McpSettings
from app.page_settings import PageSettings, check_page_settings
from app.settings_validation import (
    DEFAULT_PORT,
    ENV_PREFIX,
    KUBERNETES_LINK,
    MAX_WORKERS,
    Amount,
    Count,
    SettingsInvalid,
    TimeZoneName,
    UpstreamMode,
    check_key,
    check_lifetimes,
    check_readable,
    check_sizes,
    check_upstream_scheme,
    parse_port,
    sentences,
)
from app.upstream_settings import check_base_url, check_key_characters, clean_base_url, clean_key


class Settings(AttributionSettings, DeliverySettings, LedgerSettings, McpSettings, PageSettings):
    """All settings. Durations are seconds unless the name says otherwise; money is decimal text."""

    model_config = ConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    upstream_base_url: Annotated[str, AfterValidator(clean_base_url)] = (
        "https://open.dieyuyun.com/v1"
    )
    upstream_api_key: SecretStr | None = None
    upstream_api_key_file: Path | None = None
    allow_plain_upstream: bool = False
    upstream_mode: UpstreamMode = UpstreamMode.AUTO
    upstream_timeout_s: float = Field(180, gt=0)
    upstream_poll_interval_s: float = Field(3, gt=0, le=3600)
    upstream_rpm: int | None = Field(None, gt=0)
    upstream_burst: int | None = Field(None, gt=0)
    upstream_concurrency: int | None = Field(None, gt=0)
    upstream_queue_s: float = Field(60, ge=0)

    redis_url: str | None = None
    cache_redis_url: str | None = None
    redis_timeout_ms: int = Field(500, gt=0)
    redis_connections: int = Field(32, ge=2)
    redis_replicas: int = Field(0, ge=0)
    data_dir: Path = Path(".koi")
    journal_days: float = Field(400, gt=0)

    host: str = "127.0.0.1"
    port: Annotated[int, BeforeValidator(parse_port)] = Field(DEFAULT_PORT, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=MAX_WORKERS)
    public_url: str | None = None
    allowed_hosts: str = "*"
    trusted_proxies: str = "127.0.0.1"
    cors_origins: str = "*"
    list_aliases: bool = False
    admin_key: SecretStr | None = None
    metrics_token: SecretStr | None = None

    image_store: str = "file"
    image_ttl_days: float = Field(30, gt=0)
    image_max_mb: int = Field(100, gt=0, le=4096)
    allow_plain_pictures: bool = False
    link_ttl_s: int = Field(86_400, ge=3600)
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None

    catalog: Path | None = None
    strict: bool = False
    response_format: ResponseFormat = ResponseFormat.URL
    max_images: int = Field(10, ge=1)
    moderation_charged: bool = False

    cache_policy: CachePolicy = CachePolicy.PRIVATE
    cache_ttl_s: int = Field(3600, gt=0)
    cache_variants: int = Field(10, ge=1)

    timezone: TimeZoneName = "UTC"
    sync_wait_s: float | None = Field(None, gt=0)
    concurrency_wait_s: float = Field(10, ge=0)
    heartbeat_after_s: float = Field(45, ge=0)
    task_deadline_s: float = Field(900, gt=0)
    task_ttl_s: int = Field(86_400, gt=0)
    collect_s: float = Field(86_400, gt=0)
    collect_wait_s: float = Field(30, gt=0)
    resolve_after_s: float = Field(900, ge=0)
    max_in_flight: int = Field(default_factory=machine.max_in_flight, gt=0)
    waiting_share: float = Field(0.25, gt=0, le=1)
    key_requests_per_second: float = Field(100, ge=0)
    key_reads_per_second: float = Field(50, ge=0)
    free_refusals_per_hour: int = Field(60, gt=0)
    replays_per_hour: int = Field(3600, gt=0)
    drain_delay_s: float = Field(0, ge=0)
    drain_timeout_s: float = Field(190, gt=0)

    default_images_per_day: Count = None
    default_images_per_month: Count = None
    default_budget_per_day: Amount = None
    default_budget_per_month: Amount = None
    default_requests_per_minute: Count = 120
    default_concurrency: Count = None
    default_images_per_minute: Count = None
    default_requests_per_day: Count = None
    house_images_per_day: Count = None
    house_images_per_month: Count = None
    house_budget_per_day: Amount = None
    house_budget_per_month: Amount = None
    house_requests_per_minute: Count = None
    house_concurrency: Count = None
    house_images_per_minute: Count = None
    house_requests_per_day: Count = None

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library names it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A `.env` that others could have written is not read."""
        trusted = () if dotenv.find_distrust_reason() else (dotenv_settings,)
        return (init_settings, env_settings, *trusted, file_secret_settings)

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        problems = (
            *check_sizes(self),
            *check_lifetimes(self),
            *check_key("KOI_ADMIN_KEY", self.admin_key, at_least=16),
            *check_key("KOI_METRICS_TOKEN", self.metrics_token, at_least=16),
            *check_key("KOI_UPSTREAM_API_KEY", self.upstream_api_key, at_least=1, clean=clean_key),
            *check_readable("KOI_UPSTREAM_API_KEY_FILE", self.upstream_api_key_file),
            *check_readable("KOI_CATALOG", self.catalog),
            *_check_upstream_key(self),
            *check_http_url("KOI_UPSTREAM_BASE_URL", self.upstream_base_url),
            *check_upstream_scheme(self.upstream_base_url, allowed=self.allow_plain_upstream),
            *check_base_url("KOI_UPSTREAM_BASE_URL", self.upstream_base_url),
            *check_address_settings(self),
            *check_attribution_settings(self),
            *check_delivery_settings(self),
            *check_page_settings(self, self.public_url),
        )
        if problems:
            raise ValueError("\n".join(problems))
        if "max_in_flight" not in self.model_fields_set:
            self.__dict__["max_in_flight"] = machine.max_in_flight(self.workers)
        return self

    @property
    def default_limits(self) -> Limits:
        """Limits of a user created without any."""
        return _limits(self, "default")

    @property
    def house_limits(self) -> Limits:
        """Limits of the whole deployment."""
        return _limits(self, "house")

    @property
    def upstream_key(self) -> str | None:
        """The upstream key, from the variable or the file; None when neither is set."""
        if self.upstream_api_key is not None:
            return clean_key(self.upstream_api_key.get_secret_value()) or None
        if self.upstream_api_key_file is not None:
            return clean_key(self.upstream_api_key_file.read_text(encoding="utf-8")) or None
        return None


def _limits(settings: Settings, whose: str) -> Limits:
    """What is set as `KOI_DEFAULT_…` or `KOI_HOUSE_…`."""
    words = {field.name: field.name.replace("micros", "budget") for field in fields(Limits)}
    given = {name: getattr(settings, f"{whose}_{word}") for name, word in words.items()}
    return Limits(**given | {n: _parse_micros(v) for n, v in given.items() if "micros" in n})


def _parse_micros(text: str | None) -> int | None:
    return None if text is None else parse_micros(text)


def _check_upstream_key(settings: Settings) -> Iterator[str]:
    name = "KOI_UPSTREAM_API_KEY"
    if settings.upstream_api_key is None:
        name += "_FILE"
        if next(check_readable(name, settings.upstream_api_key_file), None) is not None:
            return
    yield from check_key_characters(name, settings.upstream_key or "")


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; `overrides` (field names) win. Raises `SettingsInvalid`."""
    return _build(Settings, overrides)


def build_settings(**values: Any) -> Settings:
    """Settings from `values` and defaults alone, without the environment and `.env`."""
    return _build(_FixedSettings, values)


def find_unknown_variables() -> Mapping[str, str | None]:
    """`KOI_…` variables, of the environment or a `.env` that is read, that are no setting and most
    likely misspelt; each with the nearest real one. Those that Kubernetes sets for a service named
    koi are left out."""
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    given = {*os.environ, *_dotenv_names()}
    strangers = sorted(
        name
        for name in given
        if name.upper().startswith(ENV_PREFIX)
        and name.upper() not in known
        and not KUBERNETES_LINK.match(name)
    )
    nearest = {name: difflib.get_close_matches(name.upper(), known, 1) for name in strangers}
    return {name: close[0] if close else None for name, close in nearest.items()}


def _dotenv_names() -> Iterable[str]:
    if not dotenv.is_loaded():
        return ()
    return DotEnvSettingsSource(Settings, env_file=dotenv.DOTENV_PATH, case_sensitive=True).env_vars


class _FixedSettings(Settings):
    model_config = ConfigDict(defer_build=True)  # most commands never need it

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: Any,  # noqa: ARG003 - the library names it
        init_settings: Any,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _build(kind: type[Settings], values: dict[str, Any]) -> Settings:
    try:
        return kind(**values)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    # Raised outside the handler: a chained ValidationError would hold the values, secrets too.
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
    }
    raise SettingsInvalid(tuple(s for detail in details for s in sentences(detail, defaults)))
