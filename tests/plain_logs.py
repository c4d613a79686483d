"""The log of a gateway in the process of the tests: one line of JSON for each event."""

import sys

import structlog


def configure_plain_logs() -> None:
    """The library's own default draws for the eye: colours, and the locals of every frame of an
    exception, which takes a tenth of a second.

    What was configured before is undone as a whole: loggers that a gateway's logging lets keep
    their processors could not be listened to later.

    Lines go to the process's own output, not to what `sys.stdout` is just then: a command that
    runs in this process prints there, and a gateway beside it may still write the line of the
    answer before.
    """
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.__stdout__),
    )
