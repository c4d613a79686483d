"""The report of a probe in Markdown: what was asked, what was answered, what follows for Koi."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.probe.answers import Answers
from app.probe.facts import ProviderFacts, known_so_far
from app.probe.findings import CONTRACT_ROWS, Evidence, Finding
from app.probe.findings_results import RESULT_ROWS
from app.probe.questions import Terms, paid_questions

NEVER_ASKED = (
    (
        "May a second key read the tasks of the first?",
        "Make a key of another application and ask for a task of `answers.jsonl` with it.",
    ),
    (
        "What does a request too many get, and do polls count?",
        "Set the key's requests per minute to 2 where you manage it, and run this again with "
        "another `--out`.",
    ),
    (
        "How does an empty balance or a used-up budget answer?",
        "Run this with such a key: the first paid question is refused and costs nothing.",
    ),
)


@dataclass(frozen=True, slots=True)
class ReportHead:
    """What the report is about; `price` is words for what an image costs."""

    host: str
    written: str
    price: str


def report_markdown(answers: Answers, facts: ProviderFacts, terms: Terms, head: ReportHead) -> str:
    """The whole file."""
    evidence = Evidence(answers, facts, terms)
    findings = [row for find in (*CONTRACT_ROWS, *RESULT_ROWS) for row in find(evidence)]
    return "\n".join(_lines(answers, terms, head, findings)) + "\n"


def _lines(
    answers: Answers, terms: Terms, head: ReportHead, findings: Sequence[Finding]
) -> Iterator[str]:
    yield f"# {head.host}, as `koi probe` found it"
    yield ""
    yield f"Written {head.written}. Model `{terms.model.name}`; one image costs {head.price}."
    yield (
        f"Paid for: at most {answers.images_paid} images, of a budget of {terms.budget}. Compare "
        "with the provider's fee details by the request ids below."
    )
    yield ""
    yield from _table(
        ("Question", "Answer", "Evidence", "What follows for Koi"),
        [(f.question, f.answer, f.evidence, f.setting) for f in findings],
    )
    yield "\n## What each question cost\n"
    yield from _table(
        ("Question", "Images at most", "Provider's request id", "State"), _costs(answers)
    )
    yield "\n## Not asked\n"
    yield from _table(("Question", "Why, and how to"), [*_unasked(answers, terms), *NEVER_ASKED])


def _costs(answers: Answers) -> list[tuple[str, str, str, str]]:
    return [
        (name, str(images), _request_id(answers, name), _state(answers, name))
        for name, images in answers.costs()
    ]


def _request_id(answers: Answers, name: str) -> str:
    answer = answers.answer(name)
    headers = {} if answer is None else answer.get("headers", {})
    return str(headers.get("x-request-id", ""))


def _state(answers: Answers, name: str) -> str:
    answer = answers.answer(name)
    if answer is None:
        return "sent, and the probe ended before the answer: paid, perhaps; never sent again"
    if answer["kind"] == "task" and answers.result(name) is None:
        return "accepted as a task"
    return {"images": "images", "task": "images from a task", "refused": "refused"}.get(
        str(answer["kind"]), f"unclear ({answer.get('reason')})"
    )


def _unasked(answers: Answers, terms: Terms) -> list[tuple[str, str]]:
    rows = []
    left, known = terms.budget - answers.images_paid, known_so_far(answers)
    for question in paid_questions(terms.model):
        if question.name == "refused_prompt" and terms.refused_prompt is None:
            rows.append((question.says, "It needs a prompt of yours: `--refused-prompt TEXT`."))
        elif question.fields(terms, known) is None or answers.was_sent(question.name):
            continue
        elif question.images > left:
            needed = answers.images_paid + question.images
            rows.append((question.says, f"The budget: `--budget {needed}` asks it too."))
    return rows


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    """On one line, and without what would end the cell or begin markup."""
    one_line = " ".join(text.split())
    return one_line.replace("|", "\\|").replace("<", "&lt;")
