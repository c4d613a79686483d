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
BEFORE_THE_PROVIDER = (
    "Something before the provider refused this request, so nothing was made; "
    "this gateway's operator must act."
)
REDIRECTED = (
    "The provider's address redirects elsewhere, which is never followed; nothing was made. "
    "This gateway's operator must correct it."
)
UNSENDABLE = "The request could not be sent to the provider; nothing was made."
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
WORK_MAY_GO_ON = frozenset({408, 409, 425, 460, 499, 504, 522, 524})
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


def decided(status: int) -> bool:
    """Whether a status alone proves that nothing was made, whoever said it and in whatever words:
    a redirect or a refusal."""
    return 300 <= status < 500 and status not in WORK_MAY_GO_ON


def unforeseen(*, sent: bool) -> UpstreamError:
    """An exchange that failed in a way nobody thought of."""
    if sent:
        return fault("upstream_ambiguous", Proof.UNKNOWN)
    return UpstreamError("upstream_error", UNSENDABLE, proof=Proof.NEVER_SENT)


def misread(status: int) -> UpstreamError:
    """A reply that our reader stumbled over."""
    if decided(status):
        return fault(BY_STATUS.get(status, "upstream_rejected"), Proof.REFUSED)
    return fault("upstream_invalid_response", Proof.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Faults:
    """Failures that quote the provider."""

    wording: Wording

    def refused(
        self, status: int, complaint: Complaint, retry_after_s: int | None, prompt: str = ""
    ) -> UpstreamError:
        """An answer with an HTTP status of 300 and up. Below 500 the status is the proof, whatever
        the body; from 500 on only the provider's own JSON is one."""
        if meaning.coded_moderation(status, complaint):
            return self.moderated(complaint)
        if decided(status):
            return self._denied(status, complaint, retry_after_s, prompt)
        if status in WORK_MAY_GO_ON or not complaint.told:
            return fault("upstream_ambiguous", Proof.UNKNOWN)
        return self.failed(complaint, worded=False)

    def reported(
        self, complaint: Complaint, retry_after_s: int | None, prompt: str = ""
    ) -> UpstreamError:
        """An error inside a reply with status 200 (F17): what its code says, or unknown."""
        status = meaning.status_of(complaint)
        if status is None:
            return fault("upstream_error", Proof.UNKNOWN)
        return self.refused(status, complaint, retry_after_s, prompt)

    def failed(self, complaint: Complaint, *, worded: bool = True) -> UpstreamError:
        """The provider says that it failed; nobody has verified that it is free. `worded`: its
        prose may say that moderation was the cause."""
        if meaning.coded_moderation(200, complaint):
            return self.moderated(complaint)
        if worded and meaning.worded_moderation(complaint):
            return self.moderated(complaint, Proof.FAILED)
        message = self.wording.clean(complaint.message, SENTENCES["upstream_error"])
        failure = UpstreamError("upstream_error", message, proof=Proof.FAILED)
        failure.billed = complaint.billed
        return failure

    def moderated(self, complaint: Complaint, proof: Proof = Proof.REFUSED) -> UpstreamError:
        """Refused for its content; whether that costs is said by a code that names a fee, else it
        is the use case's setting."""
        code = "content_policy_violation"
        message = self.wording.clean(complaint.message, SENTENCES[code])
        failure = UpstreamError(code, message, proof=proof)
        failure.billed = complaint.billed
        return failure

    def _denied(
        self, status: int, complaint: Complaint, retry_after_s: int | None, prompt: str
    ) -> UpstreamError:
        code = meaning.account_fault(status, complaint) or BY_STATUS.get(
            status, "upstream_rejected"
        )
        if status not in meaning.NEVER_MODERATION and meaning.worded_moderation(complaint, prompt):
            return self.moderated(complaint)
        if code == "upstream_rejected":
            return self._rejected(status, complaint)
        failure = fault(code, Proof.REFUSED)
        if code == "upstream_rate_limited":
            failure.retry_after_s = DEFAULT_WAIT_S if retry_after_s is None else retry_after_s
        # A page is a firewall's, which any caller's prompt may annoy: no verdict on our key.
        failure.about_us = status != 403 or complaint.told
        failure.billed = complaint.billed
        return failure

    def _rejected(self, status: int, complaint: Complaint) -> UpstreamError:
        if status < 400:
            message = REDIRECTED
        elif not complaint.told and not complaint.message:
            message = MISPLACED.get(status, BEFORE_THE_PROVIDER)
        else:
            said = self.wording.clean(complaint.message, SENTENCES["upstream_rejected"])
            message = MISPLACED.get(status, said)
        param = complaint.param if complaint.param in SENT_FIELDS else None
        failure = UpstreamError("upstream_rejected", message, proof=Proof.REFUSED, param=param)
        failure.billed = complaint.billed
        return failure
