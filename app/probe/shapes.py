"""How a provider writes: the forms of its ids, words, bodies and refusals."""

import re
import string
from dataclasses import dataclass
from typing import Any

from app.probe.answers import Answers, Record
from app.probe.readings import form_of, refused_account, tells

ALPHABETS = (
    string.digits,
    "0123456789abcdef",
    string.digits + string.ascii_lowercase,
    string.digits + string.ascii_letters,
)
ID_PREFIX = re.compile(r"[A-Za-z]+[_:-]")
REFUSALS = (
    "bad_key", "no_key", "no_prompt", "bad_model", "bad_n", "bad_json", "bad_size", "bad_quality",
    "size", "quality", "style", "no_route", "unknown_task", "malformed_task", "unknown_field",
    "long_prompt", "refused_prompt", "too_many",
)  # fmt: skip
"""Questions whose refusal is kept word for word."""


@dataclass(frozen=True, slots=True)
class TaskIdForm:
    """How task ids look: `length` letters of an alphabet after a prefix."""

    prefix: str
    alphabet: str
    length: int


def task_id_form(answers: Answers) -> TaskIdForm | None:
    ids = [str(r["task_id"]) for r in answers.all("answered") if r["kind"] == "task"]
    if not ids:
        return None
    match = ID_PREFIX.match(ids[0])
    prefix = match[0] if match is not None else ""
    rests = [name.removeprefix(prefix) for name in ids]
    letters = set("".join(rests))
    alphabet = next((a for a in ALPHABETS if letters <= set(a)), "".join(sorted(letters)))
    return TaskIdForm(prefix, alphabet, len(rests[0]))


def status_words(answers: Answers) -> dict[str, str]:
    """The status words: the first that a task had, the next one, that of its end."""
    told = [*answers.all("answered"), *answers.all("polled")]
    running = [str(r["word"]) for r in told if r["kind"] == "task" and r["word"]]
    ended = [str(r["word"]) for r in told if r["kind"] == "images" and r["word"]]
    words: dict[str, str] = {}
    if running:
        both = list(dict.fromkeys(running))
        words |= {"queued": both[0], "processing": both[min(1, len(both) - 1)]}
    return words | ({"completed": ended[0]} if ended else {})


def first_of(answers: Answers, questions: tuple[str, ...], kind: str) -> Record | None:
    for name in questions:
        answer = answers.answer(name)
        if answer is not None and answer["kind"] == kind:
            return answer
    return None


def recorded_bodies(answers: Answers, task: Record | None) -> dict[str, Any]:
    polled = answers.all("polled")
    bodies: dict[str, Any] = {}
    if task is not None:
        bodies["submit"] = task["body"]
    for name, kind in (("running", "task"), ("done", "images")):
        found = [r["body"] for r in polled if r["kind"] == kind]
        bodies |= {name: found[0]} if found else {}
    direct = first_of(answers, ("sync", "format"), "images")
    if direct is not None:
        linked = [
            answer
            for name in ("sync", "format")
            if form_of(answers, name) == "url" and (answer := answers.answer(name)) is not None
        ]
        bodies["images"] = (linked or [direct])[0]["body"]
    return bodies


def recorded_refusals(answers: Answers) -> dict[str, tuple[int, Any]]:
    refusals = {}
    for name in REFUSALS:
        answer = answers.answer(name)
        if answer is None or answer["kind"] in ("task", "images") or not tells(answer):
            continue
        if answer.get("body") is not None:
            refusals[name] = (int(answer["status"]), answer["body"])
    account = refused_account(answers)
    if account is not None and account["reason"] == "upstream_billing":
        refusals["empty_balance"] = (int(account["status"]), account["body"])
    return refusals


def retry_after_form(answers: Answers) -> str | None:
    """How a 429 says when to come back, in the sandbox's words."""
    throttled = answers.find("throttled")
    if throttled is None:
        return None
    headers = throttled["headers"]
    if "retry-after-ms" in headers:
        return "ms"
    text = str(headers.get("retry-after", ""))
    if not text:
        return "none"
    if text.isdecimal():
        return "int"
    return "float" if re.fullmatch(r"\d+\.\d+", text) else "date" if ":" in text else "garbage"
