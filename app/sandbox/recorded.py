"""A profile from the file that `koi probe` writes: a provider's recorded bodies, filled in anew for
each task. See `app/probe/profile_file.py` for the other side.

Bodies are JSON text in which `$id`, `$status`, `$progress`, `$created` and the like stand for what
changes; `{"$each": …}` stands for a list with one element for each image.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.sandbox.contract import (
    DOC,
    Json,
    Problem,
    Profile,
    Result,
    TaskIds,
    TaskView,
    openai_error,
)
from app.sandbox.switches import Switches, UnknownSwitch

FORMAT = 1
_SITUATIONS: Mapping[str, str] = MappingProxyType(
    {
        "invalid_api_key": "bad_key",
        "model_not_found": "bad_model",
        "invalid_json": "bad_json",
        "not_found": "no_route",
        "insufficient_balance": "empty_balance",
    }
)
_MISSING = object()
_FLAGS = ("url_only", "ignores_size", "relative_links", "data_prefix")


class BadProfile(ValueError):
    """The file is no profile of `koi probe`; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class RecordedProfile:
    """A profile, and the switches that belong to it."""

    profile: Profile
    switches: Mapping[str, Any]


def read_recorded(path: Path) -> RecordedProfile:
    """Raises BadProfile, or OSError when the file cannot be read."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        switches = dict(table.get("switches", {}))
        Switches().changed(switches)
        return RecordedProfile(_profile(table, _book(table)), switches)
    except BadProfile:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, UnknownSwitch) as error:
        raise BadProfile(str(error)) from None


def _book(table: Mapping[str, Any]) -> "_Book":
    if table.get("format") != FORMAT:
        raise BadProfile(f"format must be {FORMAT}; let `koi probe` write the file anew")
    return _Book(
        bodies={name: json.loads(text) for name, text in table.get("bodies", {}).items()},
        words=dict(table.get("words", {})),
        answers={
            name: (int(row["status"]), json.loads(row["body"]))
            for name, row in table.get("errors", {}).items()
        },
        task_ids=TaskIds(**table.get("task_id", {})),
    )


def _profile(table: Mapping[str, Any], book: "_Book") -> Profile:
    return Profile(
        str(table["name"]),
        book.submit,
        book.poll,
        book.missing,
        book.error,
        book.images,
        tasks=_one_of(table, "tasks", ("flag", "deferred", "always", "never")),
        default_format=_one_of(table, "default_format", ("url", "b64_json")),
        **{name: bool(table.get(name, False)) for name in _FLAGS},
        running_status=int(table.get("running_status", 200)),
        forbidden_fields=frozenset(table.get("forbidden_fields", ())),
        models=frozenset(table.get("models", ())),
        task_ids=book.task_ids,
    )


def _one_of(table: Mapping[str, Any], key: str, words: tuple[str, ...]) -> str:
    word = table.get(key, words[0])
    if word not in words:
        raise BadProfile(f"{key} is one of {', '.join(words)}")
    return str(word)


@dataclass(frozen=True, slots=True)
class _Book:
    """What was recorded: bodies, the words for a status, and answers to what is refused."""

    bodies: Mapping[str, Any]
    words: Mapping[str, str]
    answers: Mapping[str, tuple[int, Any]]
    task_ids: TaskIds

    def submit(self, view: TaskView) -> Json:
        if "submit" not in self.bodies:
            return DOC.submit(view)
        return self._task("submit", view)

    def poll(self, view: TaskView, switches: Switches) -> Json:
        name = "running" if view.result is None else "done"
        if name not in self.bodies:
            return DOC.poll(view, switches)
        body = self._task(name, view)
        if view.failure is not None:
            body["error"] = {"code": view.failure.code, "message": view.failure.message}
        return body

    def missing(self, task_id: str, switches: Switches) -> tuple[int, Json]:
        name = "unknown_task" if self.task_ids.fits(task_id) else "malformed_task"
        answer = self.answers.get(name) or self.answers.get("unknown_task")
        if answer is None:
            return DOC.missing(task_id, switches)
        return answer[0], _fill(answer[1], {"$id": task_id}, ())

    def error(self, problem: Problem) -> tuple[int, Json]:
        """The answer that was recorded for this, else one in the same envelope."""
        begins = "no" if problem.code == "missing_parameter" else "bad"
        for name in (f"{begins}_{problem.param}", _SITUATIONS.get(problem.code, "")):
            if name in self.answers:
                return self.answers[name][0], _fill(self.answers[name][1], {}, ())
        if "any" not in self.answers:
            return openai_error(problem)
        values = {
            "$code": problem.code,
            "$message": problem.message,
            "$type": problem.type,
            "$param": problem.param,
        }
        # An envelope that came with status 200 does so for every error.
        seen, body = self.answers["any"]
        return 200 if seen == 200 else problem.status, _fill(body, values, ())

    def images(self, created: int, result: Result) -> Json:
        if "images" not in self.bodies:
            return DOC.images(created, result)
        values = {"$created": int(created), "$created_text": str(created)}
        return _object(_fill(self.bodies["images"], values, _items(result)))

    def _task(self, name: str, view: TaskView) -> Json:
        items = () if view.result is None else _items(view.result)
        values = {
            "$id": view.id,
            "$model": view.model,
            "$status": self.words.get(view.status, view.status),
            "$progress": view.progress,
            "$progress%": f"{view.progress}%",
            "$progress_fraction": view.progress / 100,
            "$created": view.created,
            "$created_text": str(view.created),
            "$finishes": view.finishes,
            "$expires": view.expires,
            "$first_url": items[0].get("$url") if items else None,
        }
        return _object(_fill(self.bodies[name], values, items))


def _items(result: Result) -> tuple[dict[str, Any], ...]:
    """The values of each image."""
    keys = {"url": "$url", "b64_json": "$b64", "revised_prompt": "$revised"}
    return tuple(
        {keys[key]: value for key, value in item.items() if key in keys}
        for item in result.data or []
        if isinstance(item, dict)
    )


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {"data": value}


def _fill(template: Any, values: Mapping[str, Any], items: tuple[dict[str, Any], ...]) -> Any:
    if isinstance(template, str):
        if template in values:
            return values[template]
        return template.replace("$id", str(values["$id"])) if "$id" in values else template
    if isinstance(template, list):
        return [_fill(element, values, items) for element in template]
    if not isinstance(template, dict):
        return template
    if set(template) == {"$each"}:
        return [_fill(_for_item(template["$each"], item), {**values, **item}, ()) for item in items]
    return {key: _fill(value, values, items) for key, value in template.items()}


def _for_item(template: Any, item: Mapping[str, Any]) -> Any:
    """The template of an item with what this item has: bytes where a link was recorded, or the
    other way round; no revised prompt where there is none."""
    if not isinstance(template, dict):
        return template
    written: dict[str, Any] = {}
    for key, value in template.items():
        if value == "$url" and "$url" not in item:
            written["b64_json"] = "$b64"
        elif value == "$b64" and "$b64" not in item:
            written["url"] = "$url"
        elif value != "$revised" or item.get("$revised", _MISSING) is not _MISSING:
            written[key] = value
    return written
