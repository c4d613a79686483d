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
        self._lines.append(text)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            self._flushing_loop = None
            # Other threads append without the lock: what they append in between stays.
            lines = self._lines[:]
            del self._lines[: len(lines)]
            text = "".join(lines)
            stream = self._stream or sys.stdout
            with suppress(OSError, ValueError):
                try:
                    stream.write(text)
                except UnicodeEncodeError as error:
                    # One line must not cost the others: what cannot be encoded is escaped.
                    escaped = text.encode(error.encoding, "backslashreplace")
                    stream.write(escaped.decode(error.encoding))
                stream.flush()

    def info(self, line: str) -> None:
        recent_lines.keep(line)
        self._lines.append(f"{line}\n")
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
    logger = structlog.make_filtering_bound_logger(LOG_LEVELS[level])
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=_renders_json(logger) if format == "json" else logger,
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


def _renders_json(logger: type[Any]) -> type[Any]:
    """The same kind of logger, which makes the line of an event in one step."""

    class JsonLogger(logger):  # type: ignore[misc]
        def _proxy_to_logger(self, level: str, event: str | None = None, /, **fields: Any) -> Any:
            line = render_json(level, {"event": event, **self._context, **fields})
            return getattr(self._logger, level)(line)

    return JsonLogger


def render_json(level: str, event: EventDict) -> str:
    """What the processors make of an event. Only an event with an exception, or with a value that
    may hold a secret, passes them one by one."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    bound = structlog.contextvars.merge_contextvars(None, level, {})
    fields = {"ts": now, "level": level, "event": None, **bound, **log_context(), **event}
    if "exc_info" not in fields:
        try:
            line = orjson.dumps(fields).decode()
        except orjson.JSONEncodeError:
            pass
        else:
            if is_harmless(fields, line):
                return line
    return _dumps(
        redact_and_order(None, level, structlog.processors.format_exc_info(None, level, fields))
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
