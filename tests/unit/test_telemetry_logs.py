"""What a log line looks like, and what never gets into one."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from app.telemetry.logs import configure
from tests.plain_logs import configure_plain_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure("json", "info", stream)
    yield stream
    root.handlers[:], root.level = before
    configure_plain_logs()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_event_first(stream: io.StringIO) -> None:
    structlog.get_logger().info("job_settled", task_id="task_1", images=2)

    [line] = lines(stream)

    assert list(line) == ["ts", "level", "event", "task_id", "images"]
    assert line["ts"].endswith("Z")
    assert abs((datetime.fromisoformat(line["ts"]) - datetime.now(UTC)).total_seconds()) < 60
    assert (line["level"], line["event"], line["images"]) == ("info", "job_settled", 2)


def test_what_the_request_bound_is_on_every_line(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_7"):
        structlog.get_logger().warning("slow")
        logging.getLogger("uvicorn.error").warning("closing")

    assert [line["request_id"] for line in lines(stream)] == ["req_7", "req_7"]


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger().debug("detail")
    logging.getLogger("asyncio").debug("detail")

    assert stream.getvalue() == ""


def test_the_server_s_own_lines_take_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started %s", "here")

    [line] = lines(stream)

    assert (line["event"], line["logger"], line["level"]) == (
        "Started here",
        "uvicorn.error",
        "info",
    )


def test_an_http_client_does_not_log_its_urls(stream: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://cdn.example/a.png?token=1")

    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "name",
    ["prompt", "revised_prompt", "Authorization", "api_key", "x-api-key", "b64_json", "password"],
)
def test_a_secret_by_name_is_dropped_at_any_depth(stream: io.StringIO, name: str) -> None:
    structlog.get_logger().info("odd", **{name: "canary"}, nested={"deep": [{name: "canary"}]})

    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "key sk-koi-Canary123456789 refused",
        "key sk-Canary_12-345 refused",
        "key koi_Canary1234567890123 refused",
        "GET /v1/images/img_1.png?exp=1&sig=Canary",
        "https://s3.example/a?X-Amz-Signature=Canary&x=1",
        "authorization: Bearer Canary",
        "redis://user:Canary@store:6379/0",
    ],
)
def test_a_secret_by_shape_is_masked_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    structlog.get_logger().info(text, detail=text, nested=[{"x": (text,)}], thing=ValueError(text))
    logging.getLogger("lib").error("said %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("lib").exception("failed")

    assert "Canary" not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "task-failed-123456 and a disk-full-99",
        "koi-gateway 0.1.0 at koi_images_presumed_total",
        "https://open.example/v1/images",
        "signature checked, design=ok",
    ],
)
def test_ordinary_words_stay_readable(stream: io.StringIO, text: str) -> None:
    structlog.get_logger().info(text, key_id="key_1234567890123456")

    [line] = lines(stream)

    assert (line["event"], line["key_id"]) == (text, "key_1234567890123456")


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, float("nan"), {1: 2}, {1, 2}, object()])
def test_no_value_can_break_a_line(stream: io.StringIO, value: object) -> None:
    structlog.get_logger().info("odd", value=value)

    [line] = lines(stream)

    assert line["event"] == "odd"


def test_a_line_break_cannot_forge_a_second_line(stream: io.StringIO) -> None:
    structlog.get_logger().info("odd", agent='x"}\n{"event":"forged"}')

    assert len(lines(stream)) == 1


def test_the_console_format_is_for_people(stream: io.StringIO) -> None:
    configure("console", "info", stream)

    structlog.get_logger().info("ready", prompt="canary", url="http://127.0.0.1:8000")

    assert "ready" in stream.getvalue()
    assert "http://127.0.0.1:8000" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_without_a_stream_lines_go_to_standard_output() -> None:
    script = (
        "import structlog, logging; from app.telemetry.logs import configure;"
        "configure('json', 'info'); structlog.get_logger().info('one');"
        "logging.getLogger('uvicorn').info('two')"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["one", "two"]
    assert done.stderr == ""


def test_the_lines_of_one_turn_are_written_together_and_an_error_at_once(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = stream.write
    monkeypatch.setattr(stream, "write", lambda text: writes.append(1) or write(text))

    async def turn() -> None:
        log = structlog.get_logger()
        log.info("one")
        log.info("two")
        assert lines(stream) == []
        await asyncio.sleep(0)
        assert [line["event"] for line in lines(stream)] == ["one", "two"]
        log.info("three")
        log.error("four")
        assert [line["event"] for line in lines(stream)][2:] == ["three", "four"]
        log.info("five")

    asyncio.run(turn())

    assert [line["event"] for line in lines(stream)][-1] == "five"
    assert len(writes) <= 4


def test_lines_of_the_last_turn_are_written_at_exit() -> None:
    script = (
        "import asyncio, structlog, sys; from app.telemetry.logs import configure;"
        "configure('json', 'info');\n"
        "async def last(): structlog.get_logger().info('bye'); raise SystemExit(3)\n"
        "asyncio.run(last())"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["bye"]


@pytest.mark.parametrize("name", ["API_KEY", "x-api-key", "Password"])
def test_a_line_made_in_one_step_is_the_line_of_the_processors(
    stream: io.StringIO, name: str
) -> None:
    fields = {"user": "ann@example.com", "ms": 1.5, "count": 3, "gone": None, "ok": True}
    structlog.get_logger().info("request", **fields)
    structlog.get_logger().info("request", **fields, **{name: "canary"})

    quick, redacted = lines(stream)

    assert list(quick) == list(redacted) == ["ts", "level", "event", *fields]
    assert all(quick[field] == value == redacted[field] for field, value in fields.items())


def test_a_line_that_cannot_be_encoded_costs_no_other_line() -> None:
    raw = io.BytesIO()
    configure("json", "info", io.TextIOWrapper(raw, encoding="ascii", write_through=True))

    structlog.get_logger().error("plain")
    structlog.get_logger().error("odd", text="…")

    plain, odd = raw.getvalue().decode("ascii").splitlines()
    assert json.loads(plain)["event"] == "plain"
    assert "odd" in odd


def test_a_gateway_of_the_tests_logs_nothing_into_the_output_of_a_command_beside_it() -> None:
    configure_plain_logs()
    with redirect_stdout(io.StringIO()) as printed:
        structlog.get_logger("koi.access").warning("request")

    assert not printed.getvalue()
