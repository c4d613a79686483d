"""`python -m app.cli.worker`: one worker of several, on a socket its supervisor bound."""

import argparse
import sys

from app.cli.errors import CommandFailed, translate_errors
from app.cli.lean_imports import load_fastapi, without_gc, without_unused_modules
from app.cli.output import close_output, print_notice
from app.cli.session import load_settings_as_owner
from app.server.supervisor import EXIT_REFUSED
from app.server.worker import WorkerOptions, run_worker, tie_to_parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="koi-worker", description=__doc__)
    for name in ("--socket", "--ready", "--parent", "--number", "--port", "--workers"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--host", required=True)
    options = WorkerOptions(**vars(parser.parse_args()))
    if not tie_to_parent(options.parent):
        return 1
    try:
        with without_gc(), without_unused_modules(), translate_errors():
            settings = load_settings_as_owner(
                host=options.host, port=options.port, workers=options.workers
            )
            load_fastapi()
            return run_worker(settings, options)
    except CommandFailed as failure:
        print_notice(f"koi: {failure}")
        return EXIT_REFUSED


if __name__ == "__main__":
    code = main()
    close_output()
    sys.exit(code)
