"""The log of a gateway in the process of the tests: one line of JSON for each event."""

import structlog


def configure_plain_logs() -> None:
    """The library's own default draws for the eye: colours, and the locals of every frame of an
    exception, which takes a tenth of a second.

    What was configured before is undone as a whole: loggers that a gateway's logging lets keep
    their processors could not be listened to later.
    """
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
