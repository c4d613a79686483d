"""The documented shapes of results, tasks and errors, and what a profile is."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.sandbox.switches import Switches

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal; the profile makes the body of it."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """The provider refuses the request for this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a finished generation: items as OpenAI has them, and extra keys."""

    data: list[Any] | None
    extra: Json = field(default_factory=dict)

    def urls(self) -> list[str]:
        """Only the links, for profiles that send lists of text."""
        items = self.data or []
        return [i["url"] for i in items if isinstance(i, dict) and i.get("url")]

    def usable(self) -> int:
        """How many items have an image."""
        return sum(1 for item in self.data or [] if _carries_picture(item))


def _carries_picture(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("respect_moderation") is False:
        return False
    return bool(item.get("url") or item.get("b64_json"))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation failed: an error code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task at one moment, in the documented words; times are Unix seconds."""

    id: str
    model: str
    status: str  # queued, processing, completed, failed
    progress: int
    created: int
    finishes: int
    expires: int
    result: Result | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TaskIds:
    """The form of the task ids that a provider gives."""

    prefix: str = "task_"
    alphabet: str = "0123456789abcdef"
    length: int = 24

    def fresh(self) -> str:
        """A new id."""
        return self.prefix + "".join(secrets.choice(self.alphabet) for _ in range(self.length))

    def fits(self, task_id: str) -> bool:
        """Whether this could be one of the provider's ids."""
        rest = task_id.removeprefix(self.prefix)
        shaped = len(task_id) == len(self.prefix) + self.length and len(rest) == self.length
        return shaped and all(letter in self.alphabet for letter in rest)


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes and behaviour of one compatible provider. `models` are served beside those of the
    sandbox's own table."""

    name: str
    submit: Callable[[TaskView], Json]
    poll: Callable[[TaskView, Switches], Json]
    missing: Callable[[str, Switches], tuple[int, Json]]
    error: Callable[[Problem], tuple[int, Json]]
    images: Callable[[int, Result], Json]
    tasks: str = "flag"  # flag, deferred, always, never
    default_format: str = "url"
    url_only: bool = False
    ignores_size: bool = False
    relative_links: bool = False
    data_prefix: bool = False
    bad_key_status: int = 401
    running_status: int = 200
    forbidden_fields: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    task_ids: TaskIds = TaskIds()


def documented_submit(view: TaskView) -> Json:
    """The documented async reply, with exactly its three keys."""
    return {"id": view.id, "status": view.status, "progress": view.progress}


def documented_images(created: int, result: Result) -> Json:
    """The OpenAI images body."""
    return {"created": created, "data": result.data, **result.extra}


def documented_poll(view: TaskView, switches: Switches) -> Json:
    """All keys on one level by default; the other known variants by switch."""
    head: Json = {
        "id": view.id,
        "status": _word(view.status, switches),
        "progress": _progress(view.progress, switches),
    }
    if view.failure is not None:
        return _failed(head, view.failure, switches.failed_shape)
    if view.result is None:
        return head
    return _done(head, view, view.result, switches.done_shape)


def bare_poll(view: TaskView, switches: Switches) -> Json:
    """The other reading of the documentation: a finished task is the sync body only."""
    if view.result is not None:
        return documented_images(view.created, view.result)
    return documented_poll(view, switches)


def _word(status: str, switches: Switches) -> str:
    if switches.status_words == "documented":
        return status
    return {"processing": "in_progress", "completed": "succeeded"}.get(status, status)


def _progress(progress: int, switches: Switches) -> int | float | str:
    if switches.progress_form == "percent":
        return f"{progress}%"
    return progress / 100 if switches.progress_form == "fraction" else progress


def _done(head: Json, view: TaskView, result: Result, shape: str) -> Json:
    images = documented_images(view.created, result)
    if shape == "bare":
        return images
    if shape in {"result", "data"}:
        return {**head, shape: images}
    if shape == "code":
        return {"code": 0, "message": "success", "data": {**head, **images}}
    if shape == "results":
        return {**head, "created": view.created, "results": result.urls()}
    if shape == "images":
        pictures = [{"url": [url]} for url in result.urls()]
        return {**head, "created": view.created, "images": pictures}
    return {**head, **images}


def _failed(head: Json, failure: Failure, shape: str) -> Json:
    if shape == "string":
        return {**head, "error": failure.message}
    if shape == "fail_reason":
        return {**head, "fail_reason": failure.message}
    if shape == "code":
        return {**head, "code": failure.code, "message": failure.message}
    return {**head, "error": {"code": failure.code, "message": failure.message}}


def documented_missing(task_id: str, switches: Switches) -> tuple[int, Json]:
    """The reply for a task that is unknown or past its retention."""
    message = f"task {task_id[:80]} does not exist"
    if switches.missing_form == "400":
        return 400, {"code": "task_not_exist", "message": message, "data": None}
    if switches.missing_form == "unknown":
        return 200, {"id": task_id, "status": "UNKNOWN"}
    return openai_error(Problem(404, "task_not_found", message))


def openai_error(problem: Problem) -> tuple[int, Json]:
    """The OpenAI error envelope."""
    return problem.status, {
        "error": {
            "message": problem.message,
            "type": problem.type,
            "param": problem.param,
            "code": problem.code,
        }
    }


def coded_error(problem: Problem) -> tuple[int, Json]:
    """`{code, message, data}`, as new-api's task routes and many relays write it."""
    return problem.status, {"code": problem.code, "message": problem.message, "data": None}


DOC = Profile(
    "doc",
    documented_submit,
    documented_poll,
    documented_missing,
    openai_error,
    documented_images,
)
DOC_BARE = Profile(
    "doc-bare", documented_submit, bare_poll, documented_missing, openai_error, documented_images
)
