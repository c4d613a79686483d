"""What the answers say about a provider, in the terms of the sandbox's profiles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.probe.answers import Answers
from app.probe.questions import Known, other_format
from app.probe.readings import form_of, images_of, tells
from app.probe.shapes import (
    TaskIdForm,
    first_of,
    recorded_bodies,
    recorded_refusals,
    retry_after_form,
    status_words,
    task_id_form,
)

FORBIDDEN_QUESTIONS = {"size": "size", "quality": "quality", "style": "style"}
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """None, or a missing key, stands for what is not known. `bodies` and `refusals` are templates;
    a refusal has its status."""

    tasks: str | None = None
    default_format: str | None = None
    url_only: bool | None = None
    async_b64: bool | None = None
    ignores_size: bool | None = None
    pixel_exact: bool | None = None
    strict_size: bool | None = None
    strict_quality: bool | None = None
    strict_fields: bool | None = None
    forbidden_fields: frozenset[str] = frozenset()
    relative_links: bool | None = None
    data_prefix: bool | None = None
    image_format: str | None = None
    revised_prompt: str | None = None
    submit_status: int | None = None
    running_status: int | None = None
    progress_form: str | None = None
    prompt_refused: bool | None = None
    link_ttl_s: int | None = None
    rpm: int | None = None
    retry_after_form: str | None = None
    tells_balance: bool | None = None
    task_id: TaskIdForm | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Any] = field(default_factory=dict)
    refusals: Mapping[str, tuple[int, Any]] = field(default_factory=dict)


def known_so_far(answers: Answers) -> Known:
    """What the next questions depend on."""
    told = [record for record in answers.all("answered") if tells(record)]
    kinds = {str(record["question"]): str(record["kind"]) for record in told}
    return Known(
        tasks=_task_mode(kinds),
        default_format=_default_format(answers) or "url",
        refused=frozenset(name for name, kind in kinds.items() if kind == "refused"),
        sync_was_answered=kinds.get("sync") in ("task", "images"),
    )


def read_facts(answers: Answers) -> ProviderFacts:
    """All that can be concluded."""
    known = known_so_far(answers)
    forbidden = _forbidden(answers)
    task = first_of(answers, _tasks_asked(known.tasks), "task")
    return ProviderFacts(
        tasks=known.tasks,
        default_format=_default_format(answers),
        **_formats(answers, known),
        **_sizes(answers),
        strict_quality=_strict(answers, "bad_quality"),
        strict_fields=_strict(answers, "unknown_field"),
        forbidden_fields=forbidden,
        **_traits(answers),
        submit_status=None if task is None else int(task["status"]),
        running_status=_running_status(answers),
        prompt_refused=_strict(answers, "long_prompt"),
        link_ttl_s=_link_ttl(answers),
        rpm=_requests_per_minute(answers),
        retry_after_form=retry_after_form(answers),
        tells_balance=_tells_balance(answers),
        task_id=task_id_form(answers),
        words=status_words(answers),
        bodies=recorded_bodies(answers, task),
        refusals=recorded_refusals(answers),
    )


def _task_mode(kinds: Mapping[str, str]) -> str | None:
    if kinds.get("sync") == "task":
        return "always"
    for name, mode in (("async", "flag"), ("deferred", "deferred")):
        if kinds.get(name) == "task":
            return mode
    return "never" if kinds.get("async") in ("images", "refused") else None


def _tasks_asked(mode: str | None) -> tuple[str, ...]:
    """The questions that got a task, the one with the shortest story first."""
    return {"flag": ("async",), "deferred": ("deferred",), "always": ("sync",)}.get(mode or "", ())


def _default_format(answers: Answers) -> str | None:
    return form_of(answers, "sync") or form_of(answers, "async")


def _formats(answers: Answers, known: Known) -> dict[str, Any]:
    asked, got = other_format(known), form_of(answers, "format")
    ignored = None if got is None else got != asked
    in_task = form_of(answers, "format_async")
    return {
        "url_only": None if ignored is None else ignored and asked == "b64_json",
        "async_b64": None if in_task is None else in_task == "b64_json",
    }


def _sizes(answers: Answers) -> dict[str, Any]:
    """Whether another size is drawn, and to the pixel."""
    strict = _strict(answers, "bad_size")
    wanted = answers.find("sent", "size")
    images = images_of(answers, "size")
    if wanted is None or not images or not images[0].get("width"):
        return {"strict_size": strict, "ignores_size": None, "pixel_exact": None}
    width, height = images[0]["width"], images[0]["height"]
    asked = str(wanted.get("size", "")).split("x")
    exact = [str(width), str(height)] == asked
    default = images_of(answers, "sync") or images_of(answers, "async")
    same = bool(default) and default[0].get("width") == width and default[0]["height"] == height
    ignored = not exact and same
    return {
        "strict_size": strict,
        "ignores_size": ignored,
        "pixel_exact": None if ignored else exact,
    }


def _strict(answers: Answers, question: str) -> bool | None:
    answer = answers.answer(question)
    if answer is None or answer["kind"] == "unclear" or not tells(answer):
        return None
    return bool(answer["kind"] == "refused")


def _forbidden(answers: Answers) -> frozenset[str]:
    """Fields whose refusal is about the field, since its value was one of the catalog's. A provider
    that refuses every field it does not know says nothing about `style`."""
    forbidden = {f for name, f in FORBIDDEN_QUESTIONS.items() if _strict(answers, name)}
    if _strict(answers, "unknown_field"):
        forbidden.discard("style")
    return frozenset(forbidden)


def _traits(answers: Answers) -> dict[str, Any]:
    """What the values in the bodies looked like."""
    replies = [*answers.all("answered"), *answers.all("polled")]
    shown = [r["traits"] for r in replies if r["kind"] == "images" and "traits" in r]
    moving = [r["traits"] for r in replies if r["kind"] == "task" and "traits" in r]
    forms = [t["progress_form"] for t in moving if t["progress_form"]]
    types = [i["type"] for name in ("sync", "async") for i in images_of(answers, name)]
    got_b64 = any(form_of(answers, name) == "b64_json" for name in ("sync", "format"))
    return {
        "relative_links": any(t["relative_link"] for t in shown) if shown else None,
        "data_prefix": any(t["data_prefix"] for t in shown) if got_b64 else None,
        "revised_prompt": shown[0]["revised_prompt"] if shown else None,
        "progress_form": forms[0] if forms else None,
        "image_format": str(types[0]).removeprefix("image/") if types and types[0] else None,
    }


def _running_status(answers: Answers) -> int | None:
    running = [r for r in answers.all("polled") if r["kind"] == "task"]
    return int(running[0]["status"]) if running else None


def _link_ttl(answers: Answers) -> int | None:
    """How long a link lives by its own words, in whole hours where it is hours."""
    images = [i for name in ("sync", "async", "format") for i in images_of(answers, name)]
    lives = [i["lives_s"] for i in images if i.get("lives_s")]
    if not lives:
        return None
    lasts = float(max(lives))
    return round(lasts / HOUR_S) * HOUR_S if lasts > HOUR_S / 2 else round(lasts / 60) * 60


def _requests_per_minute(answers: Answers) -> int | None:
    for record in answers.all("answered"):
        limit = record.get("headers", {}).get("x-ratelimit-limit-requests", "")
        if re.fullmatch(r"\d{1,6}", limit):
            return int(limit)
    return None


def _tells_balance(answers: Answers) -> bool | None:
    reading = answers.find("balance")
    return None if reading is None else bool(reading["numbers"])
