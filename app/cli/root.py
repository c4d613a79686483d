"""The command tree. Verbs import what is heavy when they run, so `koi --help` stays quick."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError, Parameter

from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.failure import FAILED, MISUSED, CommandFailed
from app.cli.keys import keys
from app.cli.ledger import ledger
from app.cli.out import FULL, hang_up, lost_output, note
from app.cli.sandbox import sandbox
from app.cli.serve import serve
from app.cli.spending import resume, stop_spending
from app.cli.store import store
from app.cli.tasks import tasks
from app.cli.teams import teams
from app.cli.usage import usage
from app.cli.users import users

HELP = """Koi, an OpenAI-compatible image gateway that never pays twice.

Start here:
  koi demo                             all on this machine, no account
  KOI_UPSTREAM_API_KEY=… koi serve     the real thing
  koi keys create --user alice --new   a key for somebody
  koi usage --by user,model            what was used

Settings are KOI_… variables or lines of a .env file.
Exit codes: 0 done, 1 failed, 2 asked wrongly, 141 nobody read the answer to its end.
"""

INTERRUPTED = 128 + signal.SIGINT
UNHEARD = 128 + signal.SIGPIPE
"""As a shell tells a command that ended because nobody read on. It is no success: what was still to
be looked at is not known."""

Verb = App | Callable[..., int | None]
VERBS: tuple[Verb, ...] = (
    serve,
    demo,
    sandbox,
    users,
    teams,
    keys,
    usage,
    ledger,
    store,
    tasks,
    stop_spending,
    resume,
    doctor,
)


def command_tree() -> App:
    tree = App(
        name="koi",
        help=HELP,
        help_format="plaintext",
        help_formatter="plain",
        version=_version,
        default_parameter=Parameter(negative=()),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    for order, verb in enumerate(VERBS):
        if isinstance(verb, App):
            verb.sort_key = order
            tree.command(verb)
        else:
            tree.command(verb, sort_key=order)
    return tree


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 asked wrongly, 130 interrupted, 141 unheard."""
    code = run(arguments)
    hang_up()
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    try:
        answer = command_tree()(arguments)
    except CycloptsError as error:
        place = " ".join(("koi", *(error.command_chain or ())))
        return _told(f"{' '.join(str(error).split())} See: {place} --help", MISUSED)
    except CommandFailed as failure:
        return _told(str(failure), failure.code)
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing more may be flushed into its pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            raise
        return _told(lost_output(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return answer if isinstance(answer, int) else 0


def _told(sentence: str, code: int) -> int:
    note(f"koi: {sentence}")
    return code


def _version() -> str:
    try:
        return version("koi-gateway")
    except PackageNotFoundError:
        return "unknown"
