"""Profiles of other resellers of images with an asynchronous API like the provider's."""

import re

from app.sandbox.contract import (
    Json,
    Problem,
    Profile,
    TaskView,
    documented_images,
    documented_missing,
    openai_error,
)
from app.sandbox.switches import Switches


def _words(status: str, **words: str) -> str:
    return words.get(status, status)


def _error_object(view: TaskView) -> Json:
    if view.failure is None:
        return {}
    return {"error": {"code": view.failure.code, "message": view.failure.message}}


def _lemon_head(view: TaskView) -> Json:
    return {
        "created": view.created,
        "id": view.id,
        "task_id": view.id,
        "poll_url": f"/v1/tasks/{view.id}",
        "status": _words(view.status, queued="pending"),
    }


def _lemon_submit(view: TaskView) -> Json:
    return {**_lemon_head(view), "data": [{"url": ""}]}


def _lemon_poll(view: TaskView, _switches: Switches) -> Json:
    body = _lemon_submit(view)
    if view.failure is not None:
        return {**body, "data": [], "error": view.failure.message}
    return body if view.result is None else {**body, "data": view.result.data}


def _lemon_missing(task_id: str, _switches: Switches) -> tuple[int, Json]:
    return openai_error(Problem(404, "async_task_not_found", f"no async task {task_id[:80]}"))


def _evo_submit(view: TaskView) -> Json:
    return {
        "created": view.created,
        "id": view.id,
        "object": "image.generation.task",
        "model": view.model,
        "progress": 0 if view.failure else view.progress,
        "status": _words(view.status, queued="pending"),
    }


def _evo_poll(view: TaskView, _switches: Switches) -> Json:
    body = {**_evo_submit(view), **_error_object(view)}
    return body if view.result is None else {**body, "results": view.result.urls()}


def _evo_missing(task_id: str, _switches: Switches) -> tuple[int, Json]:
    if not re.fullmatch(r"task_[0-9a-z]{16,32}", task_id):
        return openai_error(Problem(400, "invalid_task_id", "the task id is malformed"))
    return openai_error(Problem(404, "resource_not_found", "task expired or unknown"))


def _api_submit(view: TaskView) -> Json:
    return {"code": 200, "data": [{"status": "submitted", "task_id": view.id}]}


def _api_poll(view: TaskView, _switches: Switches) -> Json:
    body: Json = {
        "id": view.id,
        "status": _words(view.status, queued="submitted"),
        "progress": view.progress,
        "created": view.created,
        "estimated_time": 20,
        **_error_object(view),
    }
    if view.result is not None:
        images = [{"url": [url], "expires_at": view.expires} for url in view.result.urls()]
        spent = view.finishes - view.created
        body |= {"completed": view.finishes, "actual_time": spent, "result": {"images": images}}
    return {"code": 200, "data": body}


def _api_missing(_task_id: str, _switches: Switches) -> tuple[int, Json]:
    return openai_error(Problem(404, "task_not_found", "task does not exist or expired"))


def _to_submit(view: TaskView) -> Json:
    return {
        "id": view.id,
        "object": "generation.task",
        "model": view.model,
        "status": _words(view.status, processing="in_progress"),
        "progress": view.progress,
        "created_at": view.created,
        "metadata": {},
    }


def _to_poll(view: TaskView, _switches: Switches) -> Json:
    # The sample in its documentation answers with another id than that of the request.
    body = {**_to_submit(view), "id": f"gen_{view.id[-12:]}", **_error_object(view)}
    if view.result is None:
        return body
    urls = view.result.urls()
    result = {"type": "image", "data": [{"url": url} for url in urls]}
    first = urls[0] if urls else None
    return {**body, "url": first, "expires_at": view.expires, "result": result}


RELATIVES: tuple[Profile, ...] = (
    Profile(
        "lemondata", _lemon_submit, _lemon_poll, _lemon_missing, openai_error, documented_images
    ),
    Profile(
        "evolink",
        _evo_submit,
        _evo_poll,
        _evo_missing,
        openai_error,
        documented_images,
        tasks="always",
        url_only=True,
    ),
    Profile(
        "apimart",
        _api_submit,
        _api_poll,
        _api_missing,
        openai_error,
        documented_images,
        tasks="always",
        url_only=True,
    ),
    Profile(
        "toapis",
        _to_submit,
        _to_poll,
        documented_missing,
        openai_error,
        documented_images,
        tasks="always",
        url_only=True,
    ),
)
