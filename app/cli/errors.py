"""A command that cannot do what it was asked, as one sentence and an exit code."""

EXIT_FAILED = 1
EXIT_USAGE = 2


class CommandFailed(Exception):
    """Told on stderr without a traceback. `code` 1: it failed; 2: it was asked wrongly."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


def usage_error(message: str) -> CommandFailed:
    return CommandFailed(message, EXIT_USAGE)
