"""The settings that the HTTP edge needs; `app.wiring` builds them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.domain.images import ResponseFormat

DEFAULT_MAX_PROMPT_CHARS = 32_000


def max_body_bytes_for(max_prompt_chars: int) -> int:
    """Bytes of the longest prompt when each character is written as two `\\uXXXX` escapes, and some
    for the other fields."""
    return 12 * max_prompt_chars + 4096


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Names end in their unit; `("*",)` allows everything.

    `public_url` is the origin (and prefix) of links; None takes the address that the client used.
    `sync_wait_s` limits every wait; None waits as long as the client announces, at least 600 s.
    `concurrency_wait_s` is the longest wait for a concurrency slot before a refusal.
    `heartbeat_after_s` 0 sends no heartbeats. `loopback_only` opens /metrics to this machine.
    `admin_key` None hides the administration routes, `docs` False the schema and its page,
    `console` False the page at / and its sessions. `sso` says that people may sign in at an OpenID
    provider. `list_aliases` lists models by all names. `mcp` opens /mcp, whose answers hold
    pictures of `mcp_image_bytes` together.
    `notices` says whether the operator receives any. `image_ttl_s` is how long pictures are kept.
    `end_users` says whether to keep for whom a request is; Open WebUI names them by
    `openwebui_user`, signed with `openwebui_secret` where there is one.
    `max_references` is how many reference images some model takes; 0: none takes any.
    `response_format` applies where neither request, key, user nor model name says one.
    """

    strict: bool = False
    response_format: ResponseFormat = ResponseFormat.URL
    max_images: int = 10
    sync_wait_s: float | None = None
    concurrency_wait_s: float = 10.0
    heartbeat_after_s: float = 0.0
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ("*",)
    cors_origins: tuple[str, ...] = ("*",)
    admin_key: bytes | None = None
    metrics_token: bytes | None = None
    loopback_only: bool = False
    max_body_bytes: int = max_body_bytes_for(DEFAULT_MAX_PROMPT_CHARS)
    max_references: int = 0
    link_ttl_s: int = 86_400
    docs: bool = True
    console: bool = True
    sso: bool = False
    notices: bool = False
    image_ttl_s: float = 30 * 86_400
    list_aliases: bool = False
    mcp: bool = False
    mcp_image_bytes: int = 700 << 10
    end_users: bool = True
    openwebui_secret: bytes | None = None
    openwebui_user: Literal["id", "email"] = "id"
    max_connections: int = 10_000
    version: str = "unknown"
    first_byte_timeout_s: float = 10.0
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    heartbeat_interval_s: float = 10.0
    comment_interval_s: float = 5.0
    now: Callable[[], float] = time.time
