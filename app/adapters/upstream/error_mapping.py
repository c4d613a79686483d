"""The provider's errors as codes with evidence about its bill (P0 to P3, decision 29), and its
messages as short plain text without secrets.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.adapters.http.errors import HttpTimeout, MalformedResponse, TlsHandshakeError
from app.adapters.upstream import error_dialects
from app.adapters.upstream.error_dialects import ProviderError
from app.domain.errors import BillingEvidence, UpstreamError

MAX_MESSAGE_CHARS = 300

HTML_PAGE = re.compile(r"<\s*(?:!doctype|html|head|body|script|title)\b", re.IGNORECASE)
TAG = re.compile(r"<[^<>]{0,400}>")
URL_LIKE = re.compile(r"(?:[a-z][a-z0-9+.-]{1,15}:)?//[^\s\"'<>]+", re.IGNORECASE)
DATA_URI = re.compile(r"data:[^\s,]{0,100},[^\s\"']*", re.IGNORECASE)
SECRET_LIKE = re.compile(
    r"\b(?:(?:sk|ak|rk|pk|xai|pat)-[\w*.…-]{4,}|bearer\s+\S{4,})", re.IGNORECASE
)
TRACE_ID = re.compile(
    r"(?:\(\s?)?\b(?:request|trace|task|log)[\s_-]?id\b\s*+[:=]?+\s*+[\w-]{6,}+\s*+\)?"
    r"|\btask_[\w-]{6,}",
    re.IGNORECASE,
)
NON_PRINTING = re.compile(r"[\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
ACCOUNT_TERMS = re.compile(
    r"api[\s_-]?key|access[\s_-]?token|invalid token|credential|unauthori[sz]ed|authenticat"
    r"|balance|billing|recharge|top.?up|insufficient|arrear|quota|budget"
    r"|available channel|channel #|distributor|余额|额度|欠费|充值|令牌|密钥|渠道|分组",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class MessageSanitizer:
    """Cleans messages; `secrets` are texts to hide, such as the upstream key and host."""

    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "MessageSanitizer()"

    def sanitize(self, text: str, otherwise: str) -> str:
        """The text for a caller, at most 300 characters; `otherwise` when almost nothing is left or
        the text is about the operator's account."""
        if HTML_PAGE.search(text) or ACCOUNT_TERMS.search(text):
            return otherwise
        for secret in self.secrets:
            text = re.sub(re.escape(secret), "[hidden]", text, flags=re.IGNORECASE)
        for pattern, instead in (
            (DATA_URI, "[link]"),
            (URL_LIKE, "[link]"),
            (SECRET_LIKE, "[hidden]"),
            (TRACE_ID, ""),
            (TAG, " "),
            (NON_PRINTING, " "),
        ):
            text = pattern.sub(instead, text)
        text = text.replace("<", " ").replace(">", " ").strip()
        if len(text) < 3:
            return otherwise
        return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


DEFAULT_RETRY_AFTER_S = 2
CALLER_FIELDS = frozenset({"model", "prompt", "n", "size", "quality"})
"""The fields that a caller sets. An error about any other is for the operator to solve."""

MESSAGES: Mapping[str, str] = {
    "content_policy_violation": "The provider's moderation refused this request.",
    "empty_result": "The provider answered without an image.",
    "task_expired": "The provider no longer knows this task.",
    "upstream_ambiguous": "The provider's answer was lost; the image may have been made.",
    "upstream_auth": "The provider refused the credentials of this gateway; its operator must act.",
    "upstream_billing": "The provider account of this gateway is exhausted; its operator must act.",
    "upstream_error": "The provider failed to make the image.",
    "upstream_incomplete": "The provider's answer broke off.",
    "upstream_invalid_response": "The provider answered with something that cannot be understood.",
    "upstream_rate_limited": "The provider is throttling this gateway; try again shortly.",
    "upstream_rejected": "The provider refused this request.",
    "upstream_timeout": "The provider did not answer in time.",
    "upstream_tls": "The provider's identity could not be verified; nothing was sent.",
    "upstream_unreachable": "The provider cannot be reached; nothing was sent.",
}
BLOCKED_BEFORE_PROVIDER = (
    "A proxy or firewall before the provider refused this request, so nothing was made; "
    "this gateway's operator must act."
)
REDIRECTED = (
    "The provider's address redirects elsewhere, which is never followed; nothing was made. "
    "This gateway's operator must correct it."
)
UNSENDABLE = "The request could not be sent to the provider; nothing was made."
MESSAGES_BY_STATUS: Mapping[int, str] = {
    404: "The provider does not know this model or endpoint; this gateway's operator must act.",
    405: "The provider refuses this kind of request; this gateway's operator must act.",
    415: "The provider refuses this kind of request; this gateway's operator must act.",
}
CODES_BY_STATUS: Mapping[int, str] = {
    400: "upstream_rejected",
    401: "upstream_auth",
    402: "upstream_billing",
    403: "upstream_auth",
    404: "upstream_rejected",
    405: "upstream_rejected",
    413: "upstream_rejected",
    415: "upstream_rejected",
    422: "upstream_rejected",
    429: "upstream_rate_limited",
}
AMBIGUOUS_STATUSES = frozenset({408, 409, 425, 460, 499, 504, 522, 524})
"""These may come from a proxy that stopped waiting while the work goes on (RFC 9110, section
15.6.5), so they prove nothing."""


def make_error(code: str, proof: BillingEvidence) -> UpstreamError:
    """An error with our own message, where the provider's is of no use to a caller."""
    return UpstreamError(code, MESSAGES[code], proof=proof)


def map_transport_error(error: Exception, *, sent: bool, answered: bool) -> UpstreamError:
    """A failure of the connection. `sent`: some byte of the request may have been sent; `answered`:
    a response had begun."""
    if isinstance(error, TlsHandshakeError):
        return make_error("upstream_tls", BillingEvidence.NEVER_SENT)
    if not sent:
        return make_error("upstream_unreachable", BillingEvidence.NEVER_SENT)
    if isinstance(error, TimeoutError | HttpTimeout):
        return make_error("upstream_timeout", BillingEvidence.UNKNOWN)
    if isinstance(error, MalformedResponse):
        return make_error("upstream_invalid_response", BillingEvidence.UNKNOWN)
    if answered:
        return make_error("upstream_incomplete", BillingEvidence.UNKNOWN)
    return make_error("upstream_ambiguous", BillingEvidence.UNKNOWN)


def is_definite_refusal(status: int) -> bool:
    """Whether a status alone proves that nothing was made, whatever the body says: a redirect or a
    refusal (decision 23)."""
    return 300 <= status < 500 and status not in AMBIGUOUS_STATUSES


def make_unexpected_error(*, sent: bool) -> UpstreamError:
    """An exchange that failed in a way the code does not expect."""
    if sent:
        return make_error("upstream_ambiguous", BillingEvidence.UNKNOWN)
    return UpstreamError("upstream_error", UNSENDABLE, proof=BillingEvidence.NEVER_SENT)


def make_parser_error(status: int) -> UpstreamError:
    """A reply on which our parser failed."""
    if is_definite_refusal(status):
        return make_error(CODES_BY_STATUS.get(status, "upstream_rejected"), BillingEvidence.REFUSED)
    return make_error("upstream_invalid_response", BillingEvidence.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ErrorMapper:
    """Makes errors that quote the provider's message."""

    sanitizer: MessageSanitizer

    def map_refusal(
        self,
        status: int,
        provider_error: ProviderError,
        retry_after_s: int | None,
        prompt: str = "",
    ) -> UpstreamError:
        """A reply with a status from 300 on. Below 500 the status proves that nothing was made,
        whatever the body; from 500 on only an error in the provider's own JSON proves anything."""
        if error_dialects.has_moderation_code(status, provider_error):
            return self.map_moderation(provider_error)
        if is_definite_refusal(status):
            return self._map_definite_refusal(status, provider_error, retry_after_s, prompt)
        if status in AMBIGUOUS_STATUSES or not provider_error.is_from_provider:
            return make_error("upstream_ambiguous", BillingEvidence.UNKNOWN)
        return self.map_task_failure(provider_error, worded=False)

    def map_error_in_success(
        self, provider_error: ProviderError, retry_after_s: int | None, prompt: str = ""
    ) -> UpstreamError:
        """An error in a reply with status 200: what its code says, or unknown."""
        status = error_dialects.infer_status(provider_error)
        if status is None:
            return make_error("upstream_error", BillingEvidence.UNKNOWN)
        return self.map_refusal(status, provider_error, retry_after_s, prompt)

    def map_task_failure(
        self, provider_error: ProviderError, *, worded: bool = True
    ) -> UpstreamError:
        """The provider says that the generation failed; that it then charges nothing is not proven.
        `worded`: take its message into account, which may name moderation as the cause."""
        if error_dialects.has_moderation_code(200, provider_error):
            return self.map_moderation(provider_error)
        if worded and error_dialects.has_moderation_text(provider_error):
            return self.map_moderation(provider_error, BillingEvidence.FAILED)
        message = self.sanitizer.sanitize(provider_error.message, MESSAGES["upstream_error"])
        failure = UpstreamError("upstream_error", message, proof=BillingEvidence.FAILED)
        failure.billed = provider_error.billed
        return failure

    def map_moderation(
        self, provider_error: ProviderError, proof: BillingEvidence = BillingEvidence.REFUSED
    ) -> UpstreamError:
        """Refused for its content. Whether the provider charges for it: as a code that names a fee
        says, else as the setting KOI_MODERATION_CHARGED says."""
        code = "content_policy_violation"
        message = self.sanitizer.sanitize(provider_error.message, MESSAGES[code])
        failure = UpstreamError(code, message, proof=proof)
        failure.billed = provider_error.billed
        return failure

    def _map_definite_refusal(
        self, status: int, provider_error: ProviderError, retry_after_s: int | None, prompt: str
    ) -> UpstreamError:
        code = error_dialects.find_account_error(status, provider_error) or CODES_BY_STATUS.get(
            status, "upstream_rejected"
        )
        if status not in error_dialects.NEVER_MODERATION and error_dialects.has_moderation_text(
            provider_error, prompt
        ):
            return self.map_moderation(provider_error)
        if code == "upstream_rejected":
            return self._map_rejection(status, provider_error)
        failure = make_error(code, BillingEvidence.REFUSED)
        if code == "upstream_rate_limited":
            failure.retry_after_s = (
                DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s
            )
        # A page without JSON is a firewall's, set off by a prompt: it says nothing about our key.
        failure.concerns_our_account = status != 403 or provider_error.is_from_provider
        failure.billed = provider_error.billed
        return failure

    def _map_rejection(self, status: int, provider_error: ProviderError) -> UpstreamError:
        if status < 400:
            message = REDIRECTED
        elif not provider_error.is_from_provider and not provider_error.message:
            message = MESSAGES_BY_STATUS.get(status, BLOCKED_BEFORE_PROVIDER)
        else:
            said = self.sanitizer.sanitize(provider_error.message, MESSAGES["upstream_rejected"])
            message = MESSAGES_BY_STATUS.get(status, said)
        param = provider_error.param if provider_error.param in CALLER_FIELDS else None
        failure = UpstreamError(
            "upstream_rejected", message, proof=BillingEvidence.REFUSED, param=param
        )
        failure.billed = provider_error.billed
        return failure
