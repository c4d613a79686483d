"""The rows of the report about what one gets for one's money: sizes, formats, links, repeats."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from app.probe.findings import UNKNOWN, Evidence, Finding
from app.probe.questions import LONG_PROMPT_CHARS

HUNG_UP = "Is a call billed whose client hung up?"
YES_NO = {True: "Yes", False: "No", None: UNKNOWN}


def _sizes(found: Evidence) -> Iterator[Finding]:
    facts = found.facts
    drawn = found.images("size")
    pixels = f"{drawn[0].get('width')}x{drawn[0].get('height')}" if drawn else UNKNOWN
    asked = found.answers.find("sent", "size")
    if asked is not None:
        answer = "To the pixel" if facts.pixel_exact else f"Drawn as {pixels}"
        if facts.ignores_size:
            answer = f"Ignored: drawn as {pixels}"
        if "size" in facts.forbidden_fields:
            answer = "The field is refused"
        yield Finding(
            f"Is size {asked.get('size')} drawn?",
            answer,
            found.status("size"),
            "`sizes` of the catalog as they are"
            if facts.pixel_exact
            else "check `sizes`: Koi always sends one",
        )
    for name, what, field in (
        ("bad_size", "a size that is not offered", "sizes"),
        ("bad_quality", "an unknown quality", "qualities"),
        ("bad_n", "n = 0", "max_n"),
        ("too_many", f"n = {found.terms.model.max_n + 1}", "max_n"),
    ):
        if found.answers.answer(name) is not None:
            yield Finding(f"What does {what} get?", *_bad_value(found, name, field))
    if found.answers.answer("quality") is not None:
        refused = "quality" in facts.forbidden_fields
        yield Finding(
            f"Is quality {found.terms.model.qualities[-1]} taken?",
            "The field is refused" if refused else "Taken",
            found.status("quality"),
            "Koi always sends one: this provider refuses it" if refused else "nothing to set",
        )


def _bad_value(found: Evidence, name: str, field: str) -> tuple[str, str, str]:
    answer = found.answers.answer(name)
    refused = answer is not None and answer["kind"] == "refused"
    follows = f"`{field}` of the catalog decides before the provider does"
    return ("Refused" if refused else "Accepted: an image"), found.status(name), follows


def _formats(found: Evidence) -> Iterator[Finding]:
    facts = found.facts
    if facts.default_format is None:
        return
    yield Finding(
        "What comes without response_format?",
        facts.default_format,
        found.status("sync"),
        "nothing to set: Koi asks for links",
    )
    shown = found.images("format")
    got = str(shown[0]["as"]) if shown else UNKNOWN
    prefix = ", with a data: prefix" if facts.data_prefix else ""
    yield Finding(
        "Is response_format obeyed?",
        f"Links only: asked for b64_json, got {got}" if facts.url_only else f"Yes: {got}{prefix}",
        f"{found.status('format')}; in a task: {YES_NO[facts.async_b64]}",
        "nothing to set: Koi makes base64 itself",
    )


def _links(found: Evidence) -> Iterator[Finding]:
    pictures = [
        image
        for name in ("sync", "async", "format", "repeat")
        for image in found.images(name)
        if image["as"] == "url"
    ]
    if not pictures:
        return
    hosts = sorted({str(image.get("host")) for image in pictures})
    lives = found.facts.link_ttl_s
    first = pictures[0]
    says = f"{first.get('type')}, {first.get('width')}x{first.get('height')}"
    yield Finding(
        "Where do links lead, and how long do they live?",
        f"{', '.join(hosts)}; {f'{lives} s by their own words' if lives else 'no end named'}"
        f"{'; relative links' if found.facts.relative_links else ''}",
        f"downloaded: HTTP {first.get('status')}, {says}, {first.get('bytes')} bytes, sent as "
        f"{first.get('content_type') or first.get('trouble')}",
        "Koi copies pictures at once; links of other hosts must be https and public",
    )


def _counts(found: Evidence) -> Iterator[Finding]:
    if found.answers.answer("many") is None:
        return
    count = len(found.images("many"))
    yield Finding(
        "Does n = 2 give two images in one call?",
        f"{count} images",
        found.status("many"),
        f"`max_n` may stay {found.terms.model.max_n}" if count == 2 else "`max_n = 1`",
    )


def _fields(found: Evidence) -> Iterator[Finding]:
    for name, question in (
        ("unknown_field", "What does an unknown field get?"),
        ("style", "Is OpenAI's `style` refused?"),
    ):
        answer = found.answers.answer(name)
        if answer is not None:
            refused = answer["kind"] == "refused"
            yield Finding(
                question,
                "Refused" if refused else "Ignored",
                found.status(name),
                "nothing to set: Koi sends documented fields only",
            )
    answer = found.answers.answer("long_prompt")
    if answer is not None:
        refused = answer["kind"] == "refused"
        yield Finding(
            f"Is a prompt of {LONG_PROMPT_CHARS:,} characters taken?",
            "Refused" if refused else "Taken",
            found.status("long_prompt"),
            f"`max_prompt_chars` below {LONG_PROMPT_CHARS}" if refused else "nothing to set",
        )


def _repeats(found: Evidence) -> Iterator[Finding]:
    again = found.answers.answer("repeat")
    first = found.answers.answer("sync")
    if again is None or first is None:
        return
    digests = [{i.get("digest") for i in found.images(name)} for name in ("sync", "repeat")]
    same_task = again.get("task_id") is not None and again.get("task_id") == first.get("task_id")
    same = same_task or (bool(digests[0]) and digests[0] == digests[1])
    yield Finding(
        "Is a repeated POST with the same Idempotency-Key the same job?",
        "The same image: the key is obeyed, or equal prompts are cached"
        if same
        else "No: another image, paid again",
        f"first {found.status('sync')}; again {found.status('repeat')}",
        "Koi never repeats a POST either way",
    )


def _money(found: Evidence) -> Iterator[Finding]:
    readings = found.answers.all("balance")
    numbers = [reading["numbers"] for reading in readings if reading["numbers"]]
    hung = found.answers.find("balance", "hang_up")
    if not numbers:
        yield Finding(
            HUNG_UP,
            UNKNOWN,
            f"no route tells the balance; {_hang_up(found)}",
            "look for it in the fee details; until then Koi presumes that it is billed",
        )
        return
    steps = [
        f"{after['question']}: {_moved(before['numbers'], after['numbers'])}"
        for before, after in pairwise(readings)
    ]
    yield Finding(
        "What did each question cost by the balance?",
        f"`{readings[0]['path']}` tells it",
        "; ".join(steps),
        "`[models.prices]` of the catalog",
    )
    if hung is not None:
        at = readings.index(hung)
        moved = _moved(readings[at - 1]["numbers"], hung["numbers"]) if at else UNKNOWN
        yield Finding(
            HUNG_UP,
            "No, as far as the balance shows" if moved == "nothing" else "Yes",
            f"balance: {moved}; {_hang_up(found)}",
            "Koi presumes that it is billed",
        )


def _hang_up(found: Evidence) -> str:
    answer = found.answers.answer("hang_up")
    if answer is None:
        return "not asked"
    seconds = answer.get("took_s")
    if answer.get("reason") == "hung_up":
        return f"hung up after {seconds} s"
    return f"answered before that, after {seconds} s"


def _moved(before: dict[str, float], after: dict[str, float]) -> str:
    changes = [
        f"{name} {after[name] - value:+g}"
        for name, value in before.items()
        if name in after and after[name] != value
    ]
    return ", ".join(changes) or "nothing"


RESULT_ROWS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _sizes,
    _formats,
    _links,
    _counts,
    _fields,
    _repeats,
    _money,
)
