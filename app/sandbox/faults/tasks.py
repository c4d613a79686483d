"""Faults of a task: its id, its polls and its end."""

from dataclasses import replace
from typing import Any

from app.sandbox.contract import Failure, Json, Problem, TaskView
from app.sandbox.faults.row import Bills, Fault, Poll

_ID_KEYS = frozenset({"id", "task_id", "taskId", "request_id"})
ODD = " é?#"
"""What the fault `odd-id` appends to an id."""
_HOSTILE_IDS: dict[str, Any] = {
    "": "../../v1/models?x=1#\r\nx-evil: 1",
    "long": "task_" + "k" * 10_000,
    "number": 12_345,
    "object": {"id": "task_1"},
}


def _with_id(body: Any, real: str, fresh: Any) -> Any:
    """The body with the task's id replaced everywhere, or removed when `fresh` is None."""
    if isinstance(body, list):
        return [_with_id(item, real, fresh) for item in body]
    if not isinstance(body, dict):
        return fresh if body == real else body
    kept = {k: v for k, v in body.items() if fresh is not None or k not in _ID_KEYS}
    return {key: _with_id(value, real, fresh) for key, value in kept.items()}


def _no_id(body: Json, real: str, _previous: str, _arg: str) -> Json:
    stripped: Json = _with_id(body, real, None)
    return stripped


def _duplicate_id(body: Json, real: str, previous: str, _arg: str) -> Json:
    swapped: Json = _with_id(body, real, previous)
    return swapped


def _hostile_id(body: Json, real: str, _previous: str, arg: str) -> Json:
    swapped: Json = _with_id(body, real, _HOSTILE_IDS.get(arg, arg))
    return swapped


def _odd_id(body: Json, real: str, _previous: str, _arg: str) -> Json:
    swapped: Json = _with_id(body, real, real + ODD)
    return swapped


async def _missing(poll: Poll) -> TaskView | None:
    await poll.exchange.json(*poll.missing)
    return None


async def _missing_at_first(poll: Poll) -> TaskView | None:
    return await _missing(poll) if poll.first(2) else poll.view


async def _missing_for_a_while(poll: Poll) -> TaskView | None:
    return await _missing(poll) if 1 < poll.number <= 1 + int(poll.arg or 2) else poll.view


async def _forgotten(poll: Poll) -> TaskView | None:
    return poll.view if poll.view.status == "queued" and poll.first(2) else await _missing(poll)


async def _stuck(poll: Poll) -> TaskView | None:
    return replace(poll.view, status="processing", progress=99, result=None)


async def _backwards(poll: Poll) -> TaskView | None:
    if poll.view.status not in {"queued", "processing"}:
        return poll.view
    return replace(poll.view, status="processing", progress=max(1, 100 - 20 * poll.number))


async def _unknown_word(poll: Poll) -> TaskView | None:
    running = poll.view.status in {"queued", "processing"}
    return replace(poll.view, status=poll.arg or "pondering") if running else poll.view


async def _completed_twice(poll: Poll) -> TaskView | None:
    result = poll.view.result
    if result is None or poll.done < 2:
        return poll.view
    again = f"&completion={poll.done}"
    items = [{**i, "url": i["url"] + again} if "url" in i else i for i in result.data or []]
    return replace(poll.view, result=replace(result, data=items))


async def _empty_at_first(poll: Poll) -> TaskView | None:
    result = poll.view.result
    if result is None or poll.done > int(poll.arg or 2):
        return poll.view
    return replace(poll.view, result=replace(result, data=[]))


async def _failed_after_success(poll: Poll) -> TaskView | None:
    if poll.done < 2:
        return poll.view
    failure = Failure("service_error", "the result was withdrawn")
    return replace(poll.view, status="failed", progress=0, result=None, failure=failure)


async def _other_id(poll: Poll) -> TaskView | None:
    return replace(poll.view, id=f"gen_{poll.view.id[-12:]}")


async def _server_error(poll: Poll) -> TaskView | None:
    if not poll.first(2):
        return poll.view
    problem = Problem(500, "internal_error", "something went wrong here", "server_error")
    await poll.exchange.json(*poll.profile.error(problem))
    return None


async def _too_many(poll: Poll) -> TaskView | None:
    if not poll.first(2):
        return poll.view
    problem = Problem(429, "rate_limit_exceeded", "too many requests", "rate_limit_error")
    await poll.exchange.json(*poll.profile.error(problem), headers=(("retry-after", "1"),))
    return None


async def _silent(poll: Poll) -> TaskView | None:
    if not poll.first(1):
        return poll.view
    if not await poll.exchange.gone(700):
        await poll.exchange.close()
    return None


async def _cut(poll: Poll) -> TaskView | None:
    if not poll.first(2):
        return poll.view
    await poll.exchange.reset()
    return None


async def _page(poll: Poll) -> TaskView | None:
    if not poll.first(2):
        return poll.view
    await poll.exchange.reply(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")
    return None


async def _lost_page(poll: Poll) -> TaskView | None:
    if not poll.first(2):
        return poll.view
    await poll.exchange.reply(404, b"<html><h1>404 Not Found</h1></html>", "text/html")
    return None


def _failed(arg: str) -> Failure:
    return Failure(arg or "service_error", "the generation failed")


def _refused(_arg: str) -> Failure:
    return Failure("content_policy_violation", "the prompt was refused by moderation")


ROWS: tuple[Fault, ...] = (
    Fault("no-id", Bills.ALL, "a task reply without an id", submit=_no_id),
    Fault("duplicate-id", Bills.ALL, "the previous task's id again", submit=_duplicate_id),
    Fault(
        "hostile-id",
        Bills.ALL,
        "an id with dots and line breaks (argument: long, number, object or the id)",
        submit=_hostile_id,
    ),
    Fault("odd-id", Bills.ALL, "an id with a blank, an accent and the like", submit=_odd_id),
    Fault("404-after-submit", Bills.ALL, "missing for 2 polls (argument)", task=_missing_at_first),
    Fault(
        "404-for-a-while",
        Bills.ALL,
        "missing for 2 polls (argument) after the first",
        task=_missing_for_a_while,
    ),
    Fault("forgotten", Bills.ALL, "missing as soon as it runs, for ever", task=_forgotten),
    Fault("stuck-99", Bills.ALL, "99 % for ever", task=_stuck),
    Fault("progress-backwards", Bills.ALL, "progress falls while it runs", task=_backwards),
    Fault("unknown-status", Bills.ALL, "a word nobody knows (argument)", task=_unknown_word),
    Fault("duplicate-completion", Bills.ALL, "other links at each look", task=_completed_twice),
    Fault(
        "completed-empty",
        Bills.ALL,
        "completed without images for 2 looks (argument)",
        task=_empty_at_first,
    ),
    Fault("success-then-failed", Bills.ALL, "completed, later failed", task=_failed_after_success),
    Fault("id-changes", Bills.ALL, "a poll shows another id", task=_other_id),
    Fault("poll-500", Bills.ALL, "500 for 2 polls (argument)", task=_server_error),
    Fault("poll-429", Bills.ALL, "429 for 2 polls (argument)", task=_too_many),
    Fault("poll-hang", Bills.ALL, "the first poll hangs (argument: how many)", task=_silent),
    Fault("poll-reset", Bills.ALL, "RST for 2 polls (argument)", task=_cut),
    Fault("poll-502-html", Bills.ALL, "a proxy's page for 2 polls (argument)", task=_page),
    Fault("poll-404-html", Bills.ALL, "a 404 page for 2 polls (argument)", task=_lost_page),
    Fault("task-failed", Bills.REFUNDED, "the generation fails (argument: code)", failure=_failed),
    Fault("moderation-task", Bills.REFUSAL, "it fails in moderation", failure=_refused),
)
