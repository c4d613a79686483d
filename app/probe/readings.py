"""Reading single answers: which of them say something about their question."""

from collections.abc import Mapping
from typing import Any

from app.probe.answers import Answers, Record

HOPELESS = frozenset({"upstream_auth", "upstream_billing"})
"""After such a refusal of our account no further question can be answered."""
NOT_OURS = frozenset({"bad_key", "no_key"})
"""Questions that are not asked with our key."""


def tells(answer: Record) -> bool:
    """Whether an answer is about its question, and not about our pace or our account."""
    about_account = answer["question"] not in NOT_OURS and answer.get("reason") in HOPELESS
    return answer["status"] != 429 and not about_account


def refused_account(answers: Answers) -> Record | None:
    """The answer by which the provider refused our key or balance."""
    sent = {record["question"] for record in answers.all("sent")}
    refused = (r for r in answers.all("answered") if r.get("reason") in HOPELESS)
    return next((record for record in refused if record["question"] in sent), None)


def is_hopeless(answers: Answers) -> bool:
    """Whether no further question can be answered."""
    return refused_account(answers) is not None


def images_of(answers: Answers, question: str) -> list[Mapping[str, Any]]:
    """What is known of the images that a question got."""
    result = answers.result(question)
    return [] if result is None else list(result.get("images", []))


def form_of(answers: Answers, question: str) -> str | None:
    """Whether they came as `url` or `b64_json`."""
    images = images_of(answers, question)
    return str(images[0]["as"]) if images else None
