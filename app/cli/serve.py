"""`koi serve`, as cyclopts reads it: its help, and what is wrong with an option.

`app.cli.root` takes the options itself where they are plain, because cyclopts takes as long to load
as the rest of a start.
"""

from typing import Annotated

from cyclopts import Parameter, validators

from app.cli.gateway_start import start_gateway
from app.cli.options import require_text
from app.cli.serve_options import ServeOptions

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

    SIGTERM, SIGHUP or Ctrl-C makes it finish what it paid for and end; a second one ends it now.

    Example: KOI_UPSTREAM_API_KEY=sk-… koi serve --host 0.0.0.0 --port 8000
    """
    return start_gateway(ServeOptions(require_text("--host", host), port, workers))
