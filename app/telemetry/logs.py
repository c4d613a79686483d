"""One line of JSON on standard output for each log event of Koi, the server and libraries."""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.service.log_context import log_context
from app.telemetry.redaction import redact

LOG_LEVELS = {
    name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")
}
NOISY_LOGGERS = ("httpx", "httpcore", "uvicorn.access", "asyncio.selector_events")
"""Libraries whose lines below WARNING hold whole URLs or nothing useful."""
SERVER_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio")


class LogStream:
    """Writes lines to a stream, by default to what `sys.stdout` is at that time, since a logger may
    outlive a redirection. A line that cannot be written (a full disk, a closed pipe) is lost: it
    must never fail the request or job that logs it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            (self._stream or sys.stdout).write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            (self._stream or sys.stdout).flush()


def configure(format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up logging of this process; safe to call again.

    `format` is "json" or "console"; `level` debug, info, warning or error. Lines go to standard
    output unless a stream is given.
    """
    output: Any = LogStream(stream)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        redact_and_order,
    ]
    renderer = _renderer(format)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LOG_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=output),
        cache_logger_on_first_use=stream is None,
    )
    _route_standard_library(output, LOG_LEVELS[level], shared, renderer)


def _route_standard_library(
    output: Any, level: int, shared: list[Processor], renderer: Processor
) -> None:
    lines = logging.StreamHandler(output)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level)
    for name in SERVER_LOGGERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the current job and request, unless the event names its own."""
    return {**log_context(), **event}


def redact_and_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Time, level and event first, then the redacted fields."""
    fields = redact(event)
    head = {name: fields.pop(name, None) for name in ("ts", "level", "event")}
    return {**head, **fields}


def _renderer(format: str) -> Processor:
    if format == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), timestamp_key="ts")
    return structlog.processors.JSONRenderer(serializer=_dumps)


def _dumps(fields: Mapping[str, Any], **_: Any) -> str:
    try:
        return orjson.dumps(fields).decode()
    except orjson.JSONEncodeError:
        # orjson refuses lone surrogates, which a hostile header may hold; the log must not fail.
        return json.dumps(fields)
