"""Which failure is which: the provider's refusals and silences as codes with a proof class.

Source: reliability study, sections 6.1 (proof classes), 7.1 and 7.2; contract study, section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from app.adapters.upstream import meaning
from app.adapters.upstream.complaint import Complaint
from app.adapters.upstream.transport import MalformedResponse, TlsFailed
from app.adapters.upstream.wording import Wording
from app.domain.errors import Proof, UpstreamError

DEFAULT_WAIT_S = 2
SENT_FIELDS = frozenset({"model", "prompt", "n", "size", "quality"})
"""The fields a caller can mend; the provider's opinion on any other is the operator's affair."""

SENTENCES: Mapping[str, str] = {
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
MISPLACED: Mapping[int, str] = {
    404: "The provider does not know this model or endpoint; this gateway's operator must act.",
    405: "The provider refuses this kind of request; this gateway's operator must act.",
    415: "The provider refuses this kind of request; this gateway's operator must act.",
}
BY_STATUS: Mapping[int, str] = {
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
WORK_MAY_GO_ON = frozenset({408, 409, 425, 499, 504, 522, 524})
"""Said by whoever stopped waiting, not by whoever does the work (RFC 9110, section 15.6.5)."""


def fault(code: str, proof: Proof) -> UpstreamError:
    """A failure about which the provider's own words are of no use to a caller."""
    return UpstreamError(code, SENTENCES[code], proof=proof)


def broken(error: Exception, *, sent: bool, answered: bool) -> UpstreamError:
    """A connection that failed (F1-F11). `sent`: some byte of the request may have left;
    `answered`: a response had begun."""
    if isinstance(error, TlsFailed):
        return fault("upstream_tls", Proof.NEVER_SENT)
    if not sent:
        return fault("upstream_unreachable", Proof.NEVER_SENT)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return fault("upstream_timeout", Proof.UNKNOWN)
    if isinstance(error, MalformedResponse):
        return fault("upstream_invalid_response", Proof.UNKNOWN)
    if answered:
        return fault("upstream_incomplete", Proof.UNKNOWN)
    return fault("upstream_ambiguous", Proof.UNKNOWN)


def unforeseen(*, sent: bool) -> UpstreamError:
    """The exchange broke on this side. Not retryable: the next request would break as well."""
    if sent:
        return fault("upstream_ambiguous", Proof.UNKNOWN)
    return UpstreamError(
        "upstream_error",
        "The request could not be sent; nothing was. This gateway's operator must look at its log.",
        proof=Proof.NEVER_SENT,
    )


def illegible(status: int) -> UpstreamError:
    """A reply that is not the provider's JSON: below 500 somebody else's page (F12-F15, F32),
    from 500 on a proxy's, behind which the work may go on (F31)."""
    if status >= 500:
        return fault("upstream_ambiguous", Proof.UNKNOWN)
    return fault("upstream_invalid_response", Proof.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Faults:
    """Failures that quote the provider."""

    wording: Wording

    def refused(
        self, status: int, complaint: Complaint, retry_after_s: int | None
    ) -> UpstreamError:
        """An answer with an HTTP status of 400 and up, in JSON (F24-F31)."""
        if meaning.moderated(status, complaint):
            return self.moderated(complaint)
        if status in WORK_MAY_GO_ON or (status not in BY_STATUS and status < 500):
            return fault("upstream_ambiguous", Proof.UNKNOWN)
        if status >= 500:
            return self.failed(complaint) if complaint.told else illegible(status)
        if not complaint.told and not complaint.message:
            return illegible(status)
        return self._denied(status, complaint, retry_after_s)

    def reported(self, complaint: Complaint, retry_after_s: int | None) -> UpstreamError:
        """An error inside a reply with status 200 (F17): what its code says, or unknown."""
        status = meaning.status_of(complaint)
        if status is None:
            return fault("upstream_error", Proof.UNKNOWN)
        return self.refused(status, complaint, retry_after_s)

    def failed(self, complaint: Complaint) -> UpstreamError:
        """The provider says that it failed; nobody has verified that it is free."""
        if meaning.moderated(200, complaint):
            return self.moderated(complaint)
        message = self.wording.clean(complaint.message, SENTENCES["upstream_error"])
        return UpstreamError("upstream_error", message, proof=Proof.FAILED)

    def moderated(self, complaint: Complaint) -> UpstreamError:
        """Refused for its content; whether that costs is the use case's setting."""
        code = "content_policy_violation"
        message = self.wording.clean(complaint.message, SENTENCES[code])
        return UpstreamError(code, message, proof=Proof.REFUSED)

    def _denied(
        self, status: int, complaint: Complaint, retry_after_s: int | None
    ) -> UpstreamError:
        code = meaning.account_fault(status, complaint) or BY_STATUS[status]
        if code == "upstream_rate_limited":
            wait_s = DEFAULT_WAIT_S if retry_after_s is None else retry_after_s
            return UpstreamError(code, SENTENCES[code], proof=Proof.REFUSED, retry_after_s=wait_s)
        if code != "upstream_rejected":
            return fault(code, Proof.REFUSED)
        message = MISPLACED.get(status) or self.wording.clean(complaint.message, SENTENCES[code])
        param = complaint.param if complaint.param in SENT_FIELDS else None
        return UpstreamError(code, message, proof=Proof.REFUSED, param=param)
