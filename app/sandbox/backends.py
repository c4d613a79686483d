"""Profiles of what may stand behind a reseller: relays, clouds and raw backends."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.sandbox.contract import (
    Json,
    Problem,
    Profile,
    Result,
    TaskView,
    coded_error,
    documented_images,
    documented_missing,
    documented_poll,
    documented_submit,
    openai_error,
)
from app.sandbox.switches import Switches

_NEW_API_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "queued": "NOT_START",
        "processing": "IN_PROGRESS",
        "completed": "SUCCESS",
        "failed": "FAILURE",
    }
)


def _new_row(view: TaskView) -> Json:
    # The integer id is a database row; tasks are polled by `task_id`.
    row = {"id": 17, "task_id": view.id, "platform": "image", "action": "GENERATE"}
    status = _NEW_API_WORDS[view.status]
    return {**row, "status": status, "progress": f"{view.progress}%", "fail_reason": ""}


def _new_submit(view: TaskView) -> Json:
    return {"code": "success", "message": "", "data": _new_row(view)}


def _new_poll(view: TaskView, switches: Switches) -> Json:
    row = {**_new_row(view), "submit_time": view.created}
    if view.failure is not None:
        row |= {"fail_reason": view.failure.message, "finish_time": view.finishes}
    if view.result is not None:
        urls = view.result.urls()
        place = "fail_reason" if switches.result_in_fail_reason else "result_url"
        row |= {place: urls[0] if urls else "", "finish_time": view.finishes}
        row["data"] = documented_images(view.created, view.result)
    return {"code": "success", "message": "", "data": row}


def _new_missing(_task_id: str, _switches: Switches) -> tuple[int, Json]:
    return coded_error(Problem(400, "task_not_exist", "task_not_exist"))


def _new_error(problem: Problem) -> tuple[int, Json]:
    status, body = openai_error(problem)
    body["error"]["type"] = "new_api_error"
    return status, body


_SCOPE_WORDS: Mapping[str, str] = MappingProxyType(
    {"queued": "PENDING", "processing": "RUNNING", "completed": "SUCCEEDED", "failed": "FAILED"}
)


def _scope_submit(view: TaskView) -> Json:
    output = {"task_id": view.id, "task_status": _SCOPE_WORDS[view.status]}
    return {"request_id": f"req-{view.id[-8:]}", "output": output}


def _scope_poll(view: TaskView, _switches: Switches) -> Json:
    body = _scope_submit(view)
    if view.failure is not None:
        body["output"] |= {"code": view.failure.code, "message": view.failure.message}
    if view.result is not None:
        urls = view.result.urls()
        body["output"]["results"] = [{"url": url} for url in urls]
        body["output"]["task_metrics"] = {"TOTAL": len(urls), "SUCCEEDED": len(urls), "FAILED": 0}
        body["usage"] = {"image_count": len(urls)}
    return body


def _scope_missing(task_id: str, _switches: Switches) -> tuple[int, Json]:
    return 200, {"request_id": "req-0", "output": {"task_id": task_id, "task_status": "UNKNOWN"}}


def _scope_error(problem: Problem) -> tuple[int, Json]:
    body = {"code": problem.code, "message": problem.message, "request_id": "req-0"}
    return problem.status, body


def _xai_submit(view: TaskView) -> Json:
    return {"request_id": view.id}


def _xai_poll(view: TaskView, _switches: Switches) -> Json:
    if view.failure is not None:
        return {"code": view.failure.code, "error": view.failure.message}
    if view.result is None:
        return {"request_id": view.id, "status": "pending"}
    return _xai_images(view.created, view.result)


def _xai_images(_created: int, result: Result) -> Json:
    data: list[Any] | None = result.data
    if data is not None:
        data = [{**i, "mime_type": "image/jpeg"} if isinstance(i, dict) else i for i in data]
    # 10^10 ticks are one dollar; an image costs two cents.
    ticks = 200_000_000 * result.usable()
    return {"data": data, "usage": {"cost_in_usd_ticks": ticks}, **result.extra}


def _xai_missing(_task_id: str, _switches: Switches) -> tuple[int, Json]:
    return _xai_error(Problem(404, "not-found", "the deferred request does not exist"))


def _xai_error(problem: Problem) -> tuple[int, Json]:
    code = "invalid-argument" if problem.status == 400 else problem.code
    return problem.status, {"code": code, "error": problem.message}


def _always_200(problem: Problem) -> tuple[int, Json]:
    return 200, openai_error(problem)[1]


def _missing_200(task_id: str, switches: Switches) -> tuple[int, Json]:
    return 200, documented_missing(task_id, switches)[1]


BACKENDS: tuple[Profile, ...] = (
    Profile(
        "newapi",
        _new_submit,
        _new_poll,
        _new_missing,
        _new_error,
        documented_images,
        tasks="always",
        url_only=True,
    ),
    Profile(
        "dashscope",
        _scope_submit,
        _scope_poll,
        _scope_missing,
        _scope_error,
        documented_images,
        tasks="always",
        url_only=True,
    ),
    Profile(
        "xai-raw",
        _xai_submit,
        _xai_poll,
        _xai_missing,
        _xai_error,
        _xai_images,
        tasks="deferred",
        data_prefix=True,
        bad_key_status=400,
        running_status=202,
        forbidden_fields=frozenset({"size", "quality", "style"}),
    ),
    Profile(
        "grok2api",
        documented_submit,
        documented_poll,
        documented_missing,
        openai_error,
        documented_images,
        tasks="never",
        default_format="b64_json",
        ignores_size=True,
        relative_links=True,
    ),
    Profile(
        "oneapi200",
        documented_submit,
        documented_poll,
        _missing_200,
        _always_200,
        documented_images,
    ),
)
