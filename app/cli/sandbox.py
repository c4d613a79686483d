"""`koi sandbox`: the stand-in provider alone."""

import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import Parameter, validators

from app.cli.errors import CommandFailed, usage_error
from app.cli.output import print_line

if TYPE_CHECKING:
    from app.sandbox.recorded import RecordedProfile

Port = Annotated[
    int,
    Parameter(
        help="Its API; results are served on the next port.",
        validator=validators.Number(gte=1, lte=65534),
    ),
]
Scale = Annotated[
    float,
    Parameter(
        help="1.0 takes 10 to 30 s a picture, 0.1 a tenth.", validator=validators.Number(gt=0)
    ),
]


def sandbox(
    *,
    port: Port = 9000,
    profile: Annotated[
        str,
        Parameter(help="Which provider behaviour; doc as documented, or a file of `koi probe`."),
    ] = "doc",
    time_scale: Scale = 1.0,
) -> None:
    """Run the stand-in provider alone: no account, no bill.

    Example: koi sandbox --port 9000 --time-scale 0.1
    """
    require_demo_extra("PIL")
    from app.sandbox.server import serve  # noqa: PLC0415 - heavy

    chosen = _find_profile(profile)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        serve(
            port=port,
            profile=chosen.profile,
            time_scale=time_scale,
            log=print_line,
            switches=chosen.switches,
        )
    except OSError as error:
        raise CommandFailed(
            f"The sandbox cannot listen on ports {port} and {port + 1} "
            f"({error.strerror or error}); choose others with --port."
        ) from None


def _find_profile(name: str) -> "RecordedProfile":
    from app.sandbox.profiles import PROFILES  # noqa: PLC0415 - heavy
    from app.sandbox.recorded import BadProfile, RecordedProfile, read_recorded  # noqa: PLC0415

    if name in PROFILES:
        return RecordedProfile(PROFILES[name], {})
    path = Path(name)
    if not path.is_file():
        known = ", ".join(PROFILES)
        raise usage_error(f"--profile knows {known}, or a file of `koi probe`; not {name!r}.")
    try:
        return read_recorded(path)
    except (BadProfile, OSError) as error:
        raise usage_error(f"{name} is no profile: {error}.") from None


def require_demo_extra(*modules: str) -> None:
    """Raises `CommandFailed` where a gateway was installed without what the stand-in provider needs
    to draw pictures, or the demo to ask for one."""
    if any(find_spec(module) is None for module in modules):
        raise CommandFailed(
            "This installation is for production and cannot draw pictures. The demo and the "
            "sandbox need an extra: `make demo` in Koi's checkout, or pip install '.[demo]' there."
        )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
