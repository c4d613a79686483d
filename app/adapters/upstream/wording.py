"""What of a provider's words may reach a caller: short plain text without secrets."""

import re
from dataclasses import dataclass

LONGEST = 300

A_PAGE = re.compile(r"<\s*(?:!doctype|html|head|body|script|title)\b", re.IGNORECASE)
TAG = re.compile(r"<[^<>]{0,400}>")
LINK = re.compile(r"(?:[a-z][a-z0-9+.-]{1,15}:)?//[^\s\"'<>]+", re.IGNORECASE)
DATA_URI = re.compile(r"data:[^\s,]{0,100},[^\s\"']*", re.IGNORECASE)
KEY = re.compile(r"\b(?:(?:sk|ak|rk|pk|xai|pat)-[\w*.…-]{4,}|bearer\s+\S{4,})", re.IGNORECASE)
REFERENCE = re.compile(
    r"(?:\(\s?)?\b(?:request|trace|task|log)[\s_-]?id\b\s*+[:=]?+\s*+[\w-]{6,}+\s*+\)?"
    r"|\btask_[\w-]{6,}",
    re.IGNORECASE,
)
NOT_TEXT = re.compile(r"[\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
THE_OPERATORS_AFFAIR = re.compile(
    r"api[\s_-]?key|access[\s_-]?token|invalid token|credential|unauthori[sz]ed|authenticat"
    r"|balance|billing|recharge|top.?up|insufficient|arrear|quota|budget"
    r"|available channel|channel #|distributor|余额|额度|欠费|充值|令牌|密钥|渠道|分组",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Wording:
    """Cleans texts; `secrets` are literals that never pass, such as the upstream key and host."""

    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Wording()"

    def clean(self, text: str, otherwise: str) -> str:
        """The text fit for a caller, at most 300 characters, or `otherwise` when little is left
        or it is about the operator's account."""
        if A_PAGE.search(text) or THE_OPERATORS_AFFAIR.search(text):
            return otherwise
        for secret in self.secrets:
            text = re.sub(re.escape(secret), "[hidden]", text, flags=re.IGNORECASE)
        for pattern, instead in (
            (DATA_URI, "[link]"),
            (LINK, "[link]"),
            (KEY, "[hidden]"),
            (REFERENCE, ""),
            (TAG, " "),
            (NOT_TEXT, " "),
        ):
            text = pattern.sub(instead, text)
        text = text.replace("<", " ").replace(">", " ").strip()
        if len(text) < 3:
            return otherwise
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
