"""A command that cannot do what it was asked, as one message and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_USAGE = 2


class CommandFailed(Exception):
    """Printed on stderr without a traceback. `code` 1: it failed; 2: wrong usage."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


def usage_error(message: str) -> CommandFailed:
    return CommandFailed(message, EXIT_USAGE)


def require_change(command: str, given: bool, options: str) -> None:
    """Refuse a command that changes what it is told to when it is told nothing."""
    if not given:
        raise usage_error(
            f"Say what to change, for example {options}; `koi {command} --help` lists all options."
        )


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the failures that an operator can do something about into `CommandFailed`. Anything else
    is a bug and keeps its traceback."""
    try:
        yield
    except Exception as error:
        from app.cli.error_messages import explain_error  # noqa: PLC0415 - most commands succeed

        message = explain_error(error)
        if message is None:
            raise
        raise CommandFailed(message) from error
