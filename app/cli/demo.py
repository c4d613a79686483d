"""`koi demo`: sandbox provider, store and gateway on this machine, and one picture through them."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from app.cli.data_dir_owner import act_as_owner
from app.cli.errors import CommandFailed, translate_errors
from app.cli.output import print_line
from app.cli.sandbox import require_demo_extra
from app.server.listener import ListenFailed, listen_from, url_of

if TYPE_CHECKING:
    from app.sandbox.server import Sandbox
    from app.settings import Settings

HOST = "127.0.0.1"
TIME_SCALE = 0.12
"""A real picture takes 10 to 30 seconds; the sandbox answers about eight times faster here."""

Port = Annotated[
    int,
    Parameter(
        help="The next free one is taken if it is in use.",
        env_var="KOI_PORT",
        validator=validators.Number(gte=1, lte=65535),
    ),
]


def demo(
    *,
    port: Port = 8000,
    data_dir: Annotated[Path, Parameter(help="Of the demo alone.")] = Path(".koi-demo"),
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Parameter(help="Of the gateway's log, beside what the demo says.", env_var="KOI_LOG_LEVEL"),
    ] = "error",
    once: Annotated[
        bool, Parameter(help="End after the picture instead of serving.", show_default=False)
    ] = False,
) -> int:
    """Try everything on this machine: one picture, no account.

    Starts a stand-in provider, a store and the gateway, makes one picture through the OpenAI
    SDK, and keeps serving until Ctrl-C. Nothing leaves this machine and nothing is billed.

    Example: koi demo --port 8000
    Example: koi demo --log-level info          # each request, with its x-request-id
    """
    require_demo_extra("openai", "PIL")
    from app.cli.demo_client import DemoClient  # noqa: PLC0415
    from app.sandbox.server import Sandbox  # noqa: PLC0415
    from app.server.run import run_gateway  # noqa: PLC0415 - heavy
    from app.telemetry.logs import configure  # noqa: PLC0415

    configure("console", log_level)
    act_as_owner(data_dir)
    try:
        bound = listen_from(HOST, port)
    except ListenFailed as failure:
        raise CommandFailed(str(failure)) from None
    with bound as listening, Sandbox(time_scale=TIME_SCALE) as sandbox:
        url = url_of(listening)
        alone = url.endswith(f":{port}")
        if not alone:
            print_line(f"Port {port} is taken, so this demo uses the next free one.")
        admin_key = f"demo-admin-{secrets.token_urlsafe(12)}"
        settings = _settings(sandbox, url, data_dir, admin_key, log_level)
        client = DemoClient(
            url=f"{url}/v1",
            sandbox_url=sandbox.url,
            data_dir=data_dir,
            admin_key=admin_key,
            once=once,
            alone=alone,
        )
        with translate_errors():
            return run_gateway(settings, listening, client.ready.set, client)


def _settings(
    sandbox: "Sandbox", url: str, data_dir: Path, admin_key: str, log_level: str
) -> "Settings":
    """A deployment of its own: deaf to KOI_… variables except its port and log level, so that no
    real key is ever used. Its admin key ends with it."""
    from app.settings import build_settings  # noqa: PLC0415

    return build_settings(
        upstream_base_url=sandbox.url,
        upstream_api_key=sandbox.key,
        upstream_poll_interval_s=0.5,
        admin_key=admin_key,
        data_dir=data_dir,
        host=HOST,
        port=int(url.rpartition(":")[2]),
        log_format="console",
        log_level=log_level,
    )
