"""Finding what a provider complains about, in every shape of error body (study, section 2.2)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.adapters.upstream.statuses import Layers

MESSAGE_KEYS = (
    "message",
    "msg",
    "error_message",
    "errorMessage",
    "err_msg",
    "fail_reason",
    "failure_reason",
    "reason",
    "detail",
)
CODE_KEYS = ("code", "errorCode", "error_code")
RETRY_KEYS = ("retry_after", "retryAfter", "retry_after_seconds")
BILLED_KEYS = ("billed", "charged", "is_billed", "is_charged")
LONGEST_TEXT = 2048
"""Here a provider's prose enters: nothing behind reads, matches or shows more of it."""
FEE = re.compile(r"(?<!no)(?<!without)(?<!insufficient)(?:^|_)fees?(?:$|_(?!refunded|waived))")
GOOD_WORDS = frozenset({"", "0", "success", "succeeded", "ok", "none", "null", "true"})


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as the provider told it. `code` and `kind` are lower case with underscores.

    `error` means an error was named as such, `coded` that a code stands for one, so that a
    message alone, as in a gateway's `{"message": …}`, is neither.
    """

    code: str = ""
    kind: str = ""
    message: str = ""
    param: str | None = None
    retry_after: Any = None
    error: bool = False
    coded: bool = False
    flagged_billed: bool | None = None

    @property
    def billed(self) -> bool | None:
        """Whether the provider says that this refusal costs; None when it does not say."""
        if self.flagged_billed is None and (FEE.search(self.code) or FEE.search(self.kind)):
            return True
        return self.flagged_billed

    @property
    def faulty(self) -> bool:
        """Whether a body with status 200 reports a failure."""
        return self.error or self.coded

    @property
    def told(self) -> bool:
        """Whether this is a provider's own error rather than some machine's between us."""
        return self.error or bool(self.code and self.message)

    @property
    def status(self) -> int | None:
        """The HTTP status a numeric code spells."""
        return int(self.code) if re.fullmatch(r"[45]\d\d", self.code) else None


def complaint_in(layers: Layers) -> Complaint:
    """The first complaint, innermost layer first; an empty one when there is none."""
    found = [_of(layer) for layer in layers]
    for complaint in found:
        if complaint.faulty:
            return complaint
    for complaint in found:
        if complaint.message:
            return complaint
    return Complaint()


def _of(layer: Mapping[str, Any]) -> Complaint:
    error = layer.get("error")
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]
    if isinstance(error, Mapping) and error:
        return _read((error, layer), error=True)
    if isinstance(error, str) and error.strip():
        return _read(({"message": error}, layer), error=True)
    named = any(_coded(layer.get(key)) for key in ("errorMessage", "errorCode", "error_code"))
    flagged = error is True or layer.get("success") is False
    return _read((layer,), error=named or flagged)


def _read(places: tuple[Mapping[str, Any], ...], *, error: bool) -> Complaint:
    code = _first(places, CODE_KEYS, _name)
    message = _first(places, MESSAGE_KEYS, _text)
    good = _good(code) or message.strip().lower() in GOOD_WORDS - {""}
    param = places[0].get("param")
    return Complaint(
        code="" if _good(code) else code,
        kind=_name(places[0].get("type")) if error else "",
        message=message,
        param=param if isinstance(param, str) else _located(places[0].get("detail")),
        retry_after=next(_values(places, RETRY_KEYS), None),
        error=error,
        coded=not good,
        flagged_billed=next((b for b in _values(places, BILLED_KEYS) if isinstance(b, bool)), None),
    )


def _values(places: tuple[Mapping[str, Any], ...], keys: tuple[str, ...]) -> Iterator[Any]:
    return (place[key] for place in places for key in keys if place.get(key) is not None)


def _first(places: tuple[Mapping[str, Any], ...], keys: tuple[str, ...], read: Any) -> str:
    return next(filter(None, map(read, _values(places, keys))), "")


def _name(said: Any) -> str:
    if isinstance(said, bool) or not isinstance(said, int | str):
        return ""
    return re.sub(r"[\s.-]+", "_", str(said)[:64].strip().lower())


def _good(code: str) -> bool:
    return code in GOOD_WORDS or re.fullmatch(r"2\d\d", code) is not None


def _coded(said: Any) -> bool:
    return isinstance(said, str | int) and not _good(_name(said))


def _text(said: Any) -> str:
    if isinstance(said, str):
        return said[:LONGEST_TEXT]
    if isinstance(said, list) and said and isinstance(said[0], Mapping):
        return _first((said[0],), ("msg", "message"), _text)
    return ""


def _located(detail: Any) -> str | None:
    """The field named by FastAPI's `detail[0].loc`."""
    if not isinstance(detail, list) or not detail or not isinstance(detail[0], Mapping):
        return None
    place = detail[0].get("loc")
    return place[-1] if isinstance(place, list) and place and isinstance(place[-1], str) else None
