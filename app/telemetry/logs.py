"""One line of JSON on standard output for each log event of Koi, the server and libraries."""

import asyncio
import atexit
import json
import logging
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.service.log_context import log_context
from app.telemetry import recent_lines
from app.telemetry.redaction import is_harmless, redact

LOG_LEVELS = {
    name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")
}
NOISY_LOGGERS = ("httpx", "httpcore", "uvicorn.access", "asyncio.selector_events")
"""Libraries whose lines below WARNING hold whole URLs or nothing useful."""
SERVER_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio")


class LogStream:
    """Writes lines to a stream, by default to what `sys.stdout` is at that time, since a logger may
    outlive a redirection. A line that cannot be written (a full disk, a closed pipe) is lost: it
    must never fail the request or job that logs it.

    Where an event loop runs, the lines of one turn are written together at its end, in the order in
    which they came; a warning or an error is written at once, with those before it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._flushing_loop: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def write(self, text: str) -> int:
        with self._lock:
            self._lines.append(text)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            lines, self._lines, self._flushing_loop = self._lines, [], None
            stream = self._stream or sys.stdout
            with suppress(OSError, ValueError):
                try:
                    stream.write("".join(lines))
                except UnicodeEncodeError as error:
                    # One line must not cost the others: what cannot be encoded is escaped.
                    text = "".join(lines).encode(error.encoding, "backslashreplace")
                    stream.write(text.decode(error.encoding))
                stream.flush()

    def info(self, line: str) -> None:
        recent_lines.keep(line)
        self.write(f"{line}\n")
        loop = asyncio._get_running_loop()
        if loop is None:
            self.flush()
        elif loop is not self._flushing_loop:
            self._flushing_loop = loop
            loop.call_soon(self.flush)

    def error(self, line: str) -> None:
        recent_lines.keep(line)
        self.write(f"{line}\n")
        self.flush()

    debug = msg = info
    warning = critical = error


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
    json_chain: list[Processor] = [structlog.contextvars.merge_contextvars, render_json]
    structlog.configure(
        processors=json_chain if format == "json" else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LOG_LEVELS[level]),
        logger_factory=lambda *_: output,
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


def render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """What the processors make of an event, in one step. Only an event with an exception, or with a
    value that may hold a secret, passes them one by one."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    head = {"ts": now, "level": method, "event": event.pop("event", None)}
    fields = {**head, **log_context(), **event}
    if "exc_info" not in fields:
        with suppress(orjson.JSONEncodeError):
            line = orjson.dumps(fields).decode()
            if is_harmless(fields, line):
                return line
    return _dumps(
        redact_and_order(
            logger, method, structlog.processors.format_exc_info(logger, method, fields)
        )
    )


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
