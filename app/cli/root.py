"""The command tree. Verbs import what is heavy when they run, so `koi --help` stays quick."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError, Parameter

from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.errors import EXIT_FAILED, EXIT_USAGE, CommandFailed
from app.cli.keys import keys
from app.cli.ledger import ledger
from app.cli.output import OUTPUT_LOST_ERRNOS, close_output, explain_lost_output, print_notice
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

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
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
    close_output()
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    try:
        answer = command_tree()(arguments)
    except CycloptsError as error:
        place = " ".join(("koi", *(error.command_chain or ())))
        return _report(f"{' '.join(str(error).split())} See: {place} --help", EXIT_USAGE)
    except CommandFailed as failure:
        return _report(str(failure), failure.code)
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing more may be flushed into its pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_LOST_ERRNOS:
            raise
        return _report(explain_lost_output(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return answer if isinstance(answer, int) else 0


def _report(sentence: str, code: int) -> int:
    print_notice(f"koi: {sentence}")
    return code


def _version() -> str:
    try:
        return version("koi-gateway")
    except PackageNotFoundError:
        return "unknown"
