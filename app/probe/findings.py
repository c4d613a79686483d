"""Each row of the report: a question, its answer, the evidence, and what follows for Koi."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from app.probe.answers import Answers, Record
from app.probe.facts import ProviderFacts
from app.probe.questions import Terms
from app.probe.readings import refused_account

MAX_IDLE_S = 4
"""How long Koi keeps an idle connection to the provider."""
UNKNOWN = "not known"
TASK_MODES = {
    "never": ("No: a plain POST and one with `async` give images", '`modes = ["sync"]`'),
    "always": ("Always: a plain POST gives a task as well", '`modes = ["async"]`'),
    "flag": ("With `async: true`; a plain POST gives images", '`modes = ["async", "sync"]`'),
    "deferred": (
        "With `deferred: true`, which Koi does not send; `async` is ignored",
        '`modes = ["sync"]`',
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row; all texts may hold Markdown."""

    question: str
    answer: str
    evidence: str = ""
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that findings are made from."""

    answers: Answers
    facts: ProviderFacts
    terms: Terms

    def status(self, question: str) -> str:
        return describe(self.answers.answer(question))

    def images(self, question: str) -> list[Mapping[str, Any]]:
        result = self.answers.result(question)
        return [] if result is None else list(result.get("images", []))


def describe(answer: Record | None) -> str:
    """An answer in a few words: status, kind, code and message."""
    if answer is None:
        return UNKNOWN
    if answer["status"] is None:
        return f"no answer ({answer.get('reason')})"
    words = [f"HTTP {answer['status']}"]
    words += [str(answer["kind"])] if answer["kind"] != "unclear" else []
    words += [f"`{answer['code']}`"] if answer.get("code") else []
    words += [f"“{answer['message']}”"] if answer.get("message") else []
    return ", ".join(words)


def _access(found: Evidence) -> Iterator[Finding]:
    models = found.answers.answer("models")
    listed = models is not None and models["status"] == 200
    yield Finding(
        "Does the key work, and is there a list of models?",
        "Yes" if listed else "No list of models",
        found.status("models"),
        "`koi doctor` can check the key" if listed else "`koi doctor` cannot check the key",
    )
    for name, question in (
        ("x_api_key", "Does `x-api-key` work as well?"),
        ("without_v1", "Does it answer without `/v1`?"),
    ):
        answer = found.answers.answer(name)
        good = answer is not None and answer["status"] == 200 and not answer["code"]
        yield Finding(question, "Yes" if good else "No", found.status(name), "nothing to set")


def _account(found: Evidence) -> Iterator[Finding]:
    refused = refused_account(found.answers)
    if refused is not None:
        yield Finding(
            "Does the provider take our account?",
            "No: nothing more was asked",
            describe(refused),
            "mend the key or the balance, then run `koi probe` with another `--out`",
        )


def _errors(found: Evidence) -> Iterator[Finding]:
    for name, question in (
        ("bad_key", "What does a wrong key get?"),
        ("no_key", "What does a request without key get?"),
        ("bad_json", "What does a broken body get?"),
        ("no_route", "What does an unknown route get?"),
        ("no_prompt", "What does a request without prompt get?"),
        ("bad_model", "What does an unknown model get?"),
        ("refused_prompt", "What does a refused prompt get?"),
    ):
        answer = found.answers.answer(name)
        if answer is None or answer is refused_account(found.answers):
            continue
        paid = name not in ("bad_key", "no_key", "bad_json", "no_route") and answer["kind"] in (
            "task", "images", "unclear",
        )  # fmt: skip
        in_200 = answer["status"] == 200 and answer["kind"] == "refused"
        said = "Accepted, and billed perhaps" if paid else "Refused"
        if name == "refused_prompt" and not paid:
            said, paid = "Refused, and billed perhaps", True
        yield Finding(
            question,
            f"{said}{', inside a 200' if in_200 else ''}",
            found.status(name),
            "compare with the fee details" if paid else "Koi reads this shape",
        )


def _tasks(found: Evidence) -> Iterator[Finding]:
    facts = found.facts
    answer, setting = TASK_MODES.get(facts.tasks or "", (UNKNOWN, "`KOI_UPSTREAM_MODE=auto`"))
    evidence = f"plain POST: {found.status('sync')}; async: {found.status('async')}"
    yield Finding("Are images made as tasks?", answer, evidence, setting)
    if facts.task_id is None:
        return
    form = facts.task_id
    yield Finding(
        "What do task ids look like?",
        f"`{form.prefix}` and {form.length} of `{form.alphabet}`",
        f"POST answered with HTTP {facts.submit_status}",
        "nothing to set",
    )
    words = ", ".join(f"`{word}`" for word in dict.fromkeys(facts.words.values())) or "none"
    shown = facts.bodies.get("running") or facts.bodies.get("submit") or {}
    fields = ", ".join(f"`{name}`" for name in shown)
    yield Finding(
        "What does a poll show?",
        f"status words {words}; progress as {facts.progress_form or 'nothing'}",
        f"GET /{found.answers.poll_path.format('…')}: {fields}",
        "nothing to set: Koi reads these words"
        if found.answers.poll_path == "tasks/{}"
        else "Koi polls `/tasks/{id}` only: `KOI_UPSTREAM_MODE=sync`",
    )
    yield Finding(
        "What does an unknown task get?",
        "As missing" if _kind(found, "unknown_task") == "missing" else "Not clearly missing",
        f"{found.status('unknown_task')}; a malformed id: {found.status('malformed_task')}",
        "nothing to set",
    )
    yield _retention(found)


def _retention(found: Evidence) -> Finding:
    question = "How long do results stay?"
    later = found.answers.all("later")
    if not later:
        return Finding(
            question,
            UNKNOWN,
            "asked only while the probe ran",
            "run `koi probe` again in an hour, a day, two days: it reads the same task, free",
        )
    last = later[-1]
    images = last.get("images") or []
    works = bool(images) and images[0].get("status") == 200
    stays = "still there" if last["kind"] == "images" else f"gone ({last['kind']})"
    link = "its link works" if works else "its link does not work"
    return Finding(
        question,
        f"after {int(last['after_s'])} s the task is {stays}; {link}",
        f"read {len(later)} times since its end",
        "Koi copies pictures at once",
    )


def _speed(found: Evidence) -> Iterator[Finding]:
    took = [
        float(record["took_s"])
        for record in found.answers.all("answered")
        if record["kind"] == "images" and "took_s" in record
    ]
    ends = {str(r["question"]): float(r["at"]) for r in found.answers.all("polled")}
    for name, ended in ends.items():
        sent = found.answers.find("sent", name)
        if sent is not None and found.answers.result(name) is not None:
            took.append(ended - float(sent["at"]))
    if took:
        yield Finding(
            "How long does an image take?",
            f"{min(took):.1f} to {max(took):.1f} s, median {median(took):.1f} s",
            f"{len(took)} images",
            f"`KOI_UPSTREAM_TIMEOUT_S` of {max(60, round(max(took) * 6))} or more",
        )


def _pace(found: Evidence) -> Iterator[Finding]:
    named: dict[str, str] = {}
    for record in found.answers.all("answered"):
        headers = record.get("headers", {})
        named |= {name: value for name, value in headers.items() if "ratelimit" in name}
    shown = ", ".join(f"`{name}: {value}`" for name, value in sorted(named.items()))
    rpm = found.facts.rpm
    yield Finding(
        "Do answers tell the rate limit?",
        "Yes" if named else "No",
        shown or "no such header on any answer",
        f"`KOI_UPSTREAM_RPM={rpm}`" if rpm else "`KOI_UPSTREAM_RPM`: what the key's page says",
    )
    throttled = found.answers.find("throttled")
    if throttled is not None:
        headers = throttled["headers"]
        waits = [f"`{n}: {v}`" for n, v in headers.items() if n.startswith("retry-after")]
        yield Finding(
            "What does a request too many get?",
            describe(throttled),
            ", ".join(waits) or "no Retry-After",
            "Koi obeys Retry-After",
        )


def _keep_alive(found: Evidence) -> Iterator[Finding]:
    idle = found.answers.all("idle")
    if not idle:
        return
    longest = max(idle, key=lambda record: float(record["open_s"]))
    seconds = float(longest["open_s"])
    closed = f"closed after {seconds:.0f} s idle"
    kept = f"still open after {seconds:.0f} s idle"
    short = longest["closed"] and seconds < MAX_IDLE_S
    yield Finding(
        "How long does an idle connection live?",
        closed if longest["closed"] else kept,
        f"keep-alive: {_header(found, 'keep-alive') or 'no header'}",
        f"Koi keeps one for {MAX_IDLE_S} s: {'too long here' if short else 'fits'}",
    )


def _header(found: Evidence, name: str) -> str:
    models = found.answers.answer("models")
    return "" if models is None else str(models.get("headers", {}).get(name, ""))


def _kind(found: Evidence, question: str) -> str:
    answer = found.answers.answer(question)
    return "" if answer is None else str(answer["kind"])


CONTRACT_ROWS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _access,
    _account,
    _errors,
    _tasks,
    _speed,
    _pace,
    _keep_alive,
)
