"""What the HTTP edge takes from the settings."""

import resource
from importlib.metadata import version

from pydantic import SecretStr

from app.api.settings import EdgeSettings, max_body_bytes_for
from app.domain.catalog import Catalog
from app.service import poller
from app.settings import Settings

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
RESERVED_FILES = 256
"""Open files of the process beside its connections to callers, to the provider and to the store."""
VERSION = version("koi-gateway")


def build_edge_settings(settings: Settings, catalog: Catalog) -> EdgeSettings:
    prompts = max(model.max_prompt_chars for model in catalog.enabled)
    return EdgeSettings(
        strict=settings.strict,
        response_format=settings.response_format,
        max_images=settings.max_images,
        sync_wait_s=settings.sync_wait_s,
        concurrency_wait_s=settings.concurrency_wait_s,
        heartbeat_after_s=settings.heartbeat_after_s,
        public_url=settings.public_url,
        allowed_hosts=_split_list(settings.allowed_hosts),
        cors_origins=_split_list(settings.cors_origins),
        admin_key=_get_secret_bytes(settings.admin_key),
        metrics_token=_get_secret_bytes(settings.metrics_token),
        loopback_only=settings.host in LOOPBACK_HOSTS,
        max_body_bytes=max_body_bytes_for(prompts),
        max_references=max((model.references for model in catalog.enabled), default=0),
        link_ttl_s=settings.link_ttl_s,
        docs=settings.docs,
        console=settings.console,
        sso=settings.oidc_issuer is not None,
        notices=settings.notice_url is not None,
        image_ttl_s=settings.image_ttl_days * 86_400,
        list_aliases=settings.list_aliases,
        mcp=settings.mcp,
        mcp_image_bytes=settings.mcp_image_kb << 10,
        end_users=settings.end_users,
        openwebui_secret=_get_secret_bytes(settings.openwebui_jwt_secret),
        openwebui_user=settings.openwebui_user,
        max_connections=_compute_max_connections(settings),
        version=VERSION,
    )


def _compute_max_connections(settings: Settings) -> int:
    """How many connections callers may hold open, so that every job can still open its own: to the
    provider, for its pictures and to the store."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    work = settings.max_in_flight + poller.MAX_CONCURRENT_JOBS + 4 * settings.redis_connections
    return max(files - work - RESERVED_FILES, files // 3)


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _get_secret_bytes(secret: SecretStr | None) -> bytes | None:
    return None if secret is None else secret.get_secret_value().encode()
