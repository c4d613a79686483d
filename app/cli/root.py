"""The `koi` command, from its words to its exit code."""

import gc
import os
import signal
import sys
from collections.abc import Sequence

from app.cli.errors import EXIT_FAILED, CommandFailed
from app.cli.output import (
    OUTPUT_LOST_ERRNOS,
    close_output,
    explain_lost_output,
    print_line,
    print_notice,
    write_output,
)
from app.cli.overview import koi_version, overview

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
"""As a shell reports a command whose reader has gone. It is no success: what the command would have
found after that is not known."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 the reader
    has gone."""
    code = run(arguments)
    close_output()
    gc.freeze()  # The interpreter would look for garbage in every loaded module before it ends.
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _answer(words)
    except CommandFailed as failure:
        return _report(str(failure), failure.code)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing more may be flushed into its pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_LOST_ERRNOS:
            raise
        return _report(explain_lost_output(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _report(sentence: str, code: int) -> int:
    print_notice(f"koi: {sentence}")
    return code


def _answer(words: Sequence[str]) -> int:
    if words in ([], ["--help"], ["-h"]):
        write_output(overview())
    elif words == ["--version"]:
        print_line(koi_version())
    else:
        return _execute(words)
    return 0


def _execute(words: Sequence[str]) -> int:
    if words[0] == "serve":
        from app.cli.serve_options import ServeOptions  # noqa: PLC0415 - not for the help

        if options := ServeOptions.parse_plain(words[1:]):
            from app.cli.gateway_start import start_gateway  # noqa: PLC0415

            return start_gateway(options)
    from app.cli.command_tree import execute  # noqa: PLC0415 - cyclopts takes 0.1 s to load

    return execute(words)
