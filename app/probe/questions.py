"""What a provider is asked, in order, and the most that each question can cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from app.domain.catalog import Model

PROMPT = "A koi fish under water lilies, ink drawing"
OTHER_PROMPT = "A koi pond in the rain, oil painting"
LONG_PROMPT_CHARS = 6_000
UNKNOWN_MODEL = "koi-probe-no-such-model"
UNKNOWN_WORD = "koi-probe"

Body: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier answers say that later questions depend on. `tasks`: never, always, flag,
    deferred, or None while it is not known."""

    tasks: str | None = None
    default_format: str = "url"
    refused: frozenset[str] = frozenset()
    """Names of questions that the provider refused."""
    sync_was_answered: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator asks for. `budget`: the most images that may be paid for; `hang_up_s`: how
    long the question about hanging up waits before it does so."""

    model: Model
    budget: int
    refused_prompt: str | None = None
    hang_up_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """One POST. `images`: the most that it can cost, in images. `fields` gives the body, or None
    when the question makes no sense. `wants_images`: its pictures are waited for and looked at."""

    name: str
    says: str
    images: int
    fields: Callable[[Terms, Known], Body | None]
    wants_images: bool = True
    idempotency_key: bool = False
    hangs_up: bool = False


def _plain(terms: Terms, **more: Any) -> Body:
    return {"model": terms.model.sent_name, "prompt": PROMPT, **more}


def _no_prompt(terms: Terms, _known: Known) -> Body:
    return {"model": terms.model.sent_name}


def _bad_model(_terms: Terms, _known: Known) -> Body:
    return {"model": UNKNOWN_MODEL, "prompt": PROMPT}


def _bad_n(terms: Terms, _known: Known) -> Body:
    return _plain(terms, n=0)


def _sync(terms: Terms, _known: Known) -> Body:
    return _plain(terms)


def _async(terms: Terms, known: Known) -> Body | None:
    return None if known.tasks == "always" else _plain(terms, **{"async": True})


def _deferred(terms: Terms, known: Known) -> Body | None:
    return _plain(terms, deferred=True) if known.tasks == "never" else None


def _size(terms: Terms, _known: Known) -> Body | None:
    sizes = [size for size in terms.model.sizes if "x" in size]
    if len(sizes) < 2:
        return None
    return {"model": terms.model.sent_name, "prompt": OTHER_PROMPT, "size": sizes[1]}


def _quality(terms: Terms, _known: Known) -> Body | None:
    if len(terms.model.qualities) < 2:
        return None
    return _plain(terms, quality=terms.model.qualities[-1])


def _bad_size(terms: Terms, known: Known) -> Body | None:
    return None if "size" in known.refused else _plain(terms, size="520x520")


def _bad_quality(terms: Terms, known: Known) -> Body | None:
    return None if "quality" in known.refused else _plain(terms, quality=UNKNOWN_WORD)


def other_format(known: Known) -> str:
    return "b64_json" if known.default_format == "url" else "url"


def _format(terms: Terms, known: Known) -> Body:
    return _plain(terms, response_format=other_format(known))


def _format_async(terms: Terms, known: Known) -> Body | None:
    if known.tasks not in ("flag", "deferred"):
        return None
    flag = "async" if known.tasks == "flag" else "deferred"
    return _plain(terms, response_format="b64_json", **{flag: True})


def _many(terms: Terms, _known: Known) -> Body | None:
    return _plain(terms, n=2) if terms.model.max_n > 1 else None


def _unknown_field(terms: Terms, _known: Known) -> Body:
    return _plain(terms, koi_probe=True)


def _style(terms: Terms, _known: Known) -> Body:
    return _plain(terms, style="vivid")


def _long_prompt(terms: Terms, _known: Known) -> Body:
    text = (f"{PROMPT}. " * (LONG_PROMPT_CHARS // len(PROMPT)))[:LONG_PROMPT_CHARS]
    return {"model": terms.model.sent_name, "prompt": text}


def _repeat(terms: Terms, known: Known) -> Body | None:
    return _plain(terms) if known.sync_was_answered else None


def _refused_prompt(terms: Terms, _known: Known) -> Body | None:
    if terms.refused_prompt is None:
        return None
    return {"model": terms.model.sent_name, "prompt": terms.refused_prompt}


def _too_many(terms: Terms, _known: Known) -> Body:
    return _plain(terms, n=terms.model.max_n + 1)


def paid_questions(model: Model) -> tuple[Question, ...]:
    """Those that may cost something; what is usually refused comes first and costs nothing then."""
    return (
        Question("no_prompt", "What does a request without prompt get?", 1, _no_prompt, False),
        Question("bad_model", "What does an unknown model get?", 1, _bad_model, False),
        Question("bad_n", "What does n = 0 get?", 1, _bad_n, False),
        Question("sync", "Is a plain POST answered by the image?", 1, _sync, idempotency_key=True),
        Question("async", "Does `async: true` give a task?", 1, _async),
        Question("deferred", "Does `deferred: true` give a task?", 1, _deferred),
        Question("size", "Is another size of the catalog drawn?", 1, _size),
        Question("quality", "Is another quality of the catalog taken?", 1, _quality),
        Question("bad_size", "What does a size get that is not offered?", 1, _bad_size),
        Question("bad_quality", "What does an unknown quality get?", 1, _bad_quality),
        Question("format", "Is response_format obeyed?", 1, _format),
        Question("format_async", "Does a task obey response_format b64_json?", 1, _format_async),
        Question("many", "Does n = 2 give two images in one call?", 2, _many),
        Question(
            "repeat",
            "Does a repeat with the same Idempotency-Key give the same image?",
            1,
            _repeat,
            idempotency_key=True,
        ),
        Question(
            "long_prompt",
            f"Is a prompt of {LONG_PROMPT_CHARS:,} characters taken?",
            1,
            _long_prompt,
            False,
        ),
        Question("unknown_field", "What does an unknown field get?", 1, _unknown_field, False),
        Question(
            "hang_up",
            "Is a call billed whose client hung up?",
            1,
            _sync,
            wants_images=False,
            hangs_up=True,
        ),
        Question("refused_prompt", "What does a refused prompt get?", 1, _refused_prompt),
        Question("style", "Is OpenAI's `style` refused?", 1, _style, False),
        Question(
            "too_many",
            f"What does n = {model.max_n + 1} get?",
            model.max_n + 1,
            _too_many,
            wants_images=False,
        ),
    )
