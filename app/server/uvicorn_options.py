"""How uvicorn is told to serve Koi."""

from typing import Any

from app.server.http import EdgeHttpProtocol

KEEP_ALIVE_TIMEOUT_S = 75
"""How long a connection may rest between two requests."""


def build_uvicorn_options(
    host: str,
    port: int,
    *,
    trusted_proxies: str = "127.0.0.1",
    workers: int = 1,
    graceful_s: int | None = None,
) -> dict[str, Any]:
    """Arguments of `uvicorn.Config` and `uvicorn.run` for serving Koi, tests included.

    `trusted_proxies` is a comma-separated list of addresses whose X-Forwarded-* are believed;
    `graceful_s` is how long requests may run on after SIGTERM, None for ever.
    """
    return {
        "host": host,
        "port": port,
        "workers": workers,
        "http": EdgeHttpProtocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": True,
        "forwarded_allow_ips": trusted_proxies,
        "backlog": 4096,
        "timeout_keep_alive": KEEP_ALIVE_TIMEOUT_S,
        "timeout_graceful_shutdown": graceful_s,
    }
