"""Every way a request can fail, as the domain sees it.

A failure says three things: `code` (what happened; stable and public), `retryable` (may the caller
repeat the same request at once) and `charged` (what must be assumed about the provider's bill).
The HTTP status of each code is in `app.api.errors`.

* GatewayError
  - InvalidRequest            the caller's own mistake; `param` names the field
  - InvalidApiKey             no, unknown, expired or revoked key: always the same text
  - AdminKeyRequired
  - ModelNotFound, TaskNotFound, ImageNotFound
  - TaskNotCancellable
  - TaskCancelled             told to whoever waits for a task that its owner cancelled
  - IdempotencyKeyReused      same Idempotency-Key, another body
  - AdmissionRefused          a limit of this deployment; nothing was dispatched
    + InsufficientQuota       images or money of a window are used up (settled: `QuotaUsedUp`)
    + SpendingStopped         an operator stopped spending
    + RateLimited             too many requests per minute
      * ConcurrencyLimited    too many jobs at once
    + TooManyWaiting, TooManyRefusals    one caller's share is used up (in `app.domain.limits`)
    + PriceUnknown            a money budget cannot be kept for a model without a price
  - NotCached                 only-if-cached, and it is not
  - StillProcessing           the wait is over, the job goes on: repeat to join it
  - GenerationFailed          a job's own end, told to whoever waits for it
  - ServiceUnavailable        Koi cannot take the request now; nothing was dispatched
    + StoreUnavailable        Redis does not answer: nothing was dispatched
      * LedgerUnavailable     and it was the ledger that was asked
        - LedgerDataLost      the store lost data: refused until it is rebuilt
          + LedgerMoved, JournalUnreadable: it is elsewhere now; it is empty, and nobody knows why
        - DataVersionUnknown  the store's data is of another version (`app.domain.other_store`)
    + GatewayDraining, RequestInterrupted, GatewayOverloaded
  - UpstreamError             the provider failed us; carries a `BillingEvidence`
"""

from typing import ClassVar

from app.domain.failure import UPSTREAM_CODES, build_note
from app.domain.failure import BillingEvidence as BillingEvidence
from app.domain.failure import FailureNote as FailureNote


class GatewayError(Exception):
    """A failure that can be explained to the caller."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    charged: ClassVar[bool] = False

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def note(self) -> FailureNote:
        return build_note(
            self.code, self.message, self.retryable, self.charged, self.param, self.retry_after_s
        )


class InvalidRequest(GatewayError):
    """The caller's mistake. `code` is one of `INVALID_CODES`."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.reason = code

    @property
    def note(self) -> FailureNote:
        return build_note(self.reason, self.message, False, False, self.param)


class InvalidApiKey(GatewayError):
    """`why` and `key_id` are for the log: callers who sent a key get one text for every reason."""

    code = "invalid_api_key"

    def __init__(self, why: str = "malformed", key_id: str | None = None) -> None:
        self.why, self.key_id = why, key_id
        told = "No API key was sent." if why == "missing" else "Incorrect API key provided."
        super().__init__(f"{told} Ask the operator of this gateway for a key.")


class AdminKeyRequired(GatewayError):
    code = "admin_key_required"


class ModelNotFound(GatewayError):
    code = "model_not_found"

    def __init__(
        self,
        message: str = "The model does not exist or this key may not use it; see GET /v1/models.",
        *,
        param: str | None = "model",
    ) -> None:
        super().__init__(message, param=param)


class TaskNotFound(GatewayError):
    code = "task_not_found"

    def __init__(self) -> None:
        super().__init__("No such task, or it has expired.")


class ImageNotFound(GatewayError):
    code = "image_not_found"

    def __init__(self) -> None:
        super().__init__("No such image, or its link has expired.")


class TaskNotCancellable(GatewayError):
    code = "task_not_cancellable"


class TaskCancelled(GatewayError):
    code = "task_cancelled"


class IdempotencyKeyReused(GatewayError):
    code = "idempotency_key_reuse"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another request body within 24 hours.")


class AdmissionRefused(GatewayError):
    """A limit of this deployment refused the request; nothing was dispatched."""


class InsufficientQuota(AdmissionRefused):
    code = "insufficient_quota"


class SpendingStopped(AdmissionRefused):
    """An operator stopped spending (`koi stop-spending`)."""

    code = "spending_stopped"


class RateLimited(AdmissionRefused):
    """Too many requests per minute. Under a limit of 0 waiting does not help: then there is no
    `retry_after_s`, and the refusal is not retryable."""

    code = "rate_limit_exceeded"

    @property
    def note(self) -> FailureNote:
        can_wait = self.retry_after_s is not None
        return build_note(self.code, self.message, can_wait, False, self.param, self.retry_after_s)


class ConcurrencyLimited(RateLimited):
    """All concurrency slots of a scope are taken. `scope` is its id; `retry_after_s` is when a slot
    is expected to be free, None where the limit is 0."""

    code = "concurrency_limit_exceeded"

    def __init__(self, message: str, *, scope: str, retry_after_s: int | None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.scope = scope


class PriceUnknown(AdmissionRefused):
    code = "price_unknown"


class NotCached(GatewayError):
    code = "not_cached"


class StillProcessing(GatewayError):
    """The job goes on after this wait; the same request again joins it and pays nothing."""

    code = "still_processing"
    retryable = True

    def __init__(self, message: str, *, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class GenerationFailed(GatewayError):
    """A job ended without a picture; its record holds the failure."""

    def __init__(self, failure: FailureNote, *, task_id: str) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.task_id = task_id

    @property
    def note(self) -> FailureNote:
        return self.failure


class ServiceUnavailable(GatewayError):
    """Koi itself cannot take the request now; nothing was dispatched."""

    retryable = True


class StoreUnavailable(ServiceUnavailable):
    """Redis does not answer. The ledger, the cache and the rate limits share its public code."""

    code = "ledger_unavailable"

    def __init__(
        self, message: str = "The ledger is unavailable; nothing was spent.", *, asked: bool = True
    ) -> None:
        super().__init__(message, retry_after_s=2)
        self.asked = asked
        """Whether the store was asked at all. If so, it may have done what it did not confirm."""


class LedgerUnavailable(StoreUnavailable):
    """The ledger cannot be read or written."""


class LedgerDataLost(LedgerUnavailable):
    """The store does not know what this gateway has seen of it: it was emptied or is outdated."""

    def __init__(self, message: str = "") -> None:
        lost = "The store lost its data; spending stays refused until an operator has seen to it."
        super().__init__(message or lost)


class GatewayDraining(ServiceUnavailable):
    code = "draining"

    def __init__(self) -> None:
        super().__init__("This gateway is restarting; repeat the request.", retry_after_s=1)


class RequestInterrupted(ServiceUnavailable):
    code = "interrupted"

    def __init__(self) -> None:
        super().__init__(
            "The gateway stopped before this request was sent; nothing was spent. Repeat it.",
            retry_after_s=1,
        )


class GatewayOverloaded(ServiceUnavailable):
    code = "overloaded"

    def __init__(
        self,
        message: str = "Too many requests in flight; try again shortly.",
        *,
        retry_after_s: int = 2,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class UpstreamError(GatewayError):
    """The provider failed. `code` is one of `UPSTREAM_CODES`.

    Only a failure with evidence P0 or P1 may be retryable. After a P2 failure (the provider's own
    JSON 500) nothing is charged, but the provider is not asked again for the same request (I8);
    after P3 the image may be billed. `request_id` is the provider's name for the exchange, when its
    answer had begun; it is for the ledger, never for a caller.
    """

    request_id: str | None = None
    billed: bool | None = None
    """Whether the provider's answer says that this refusal costs money; None: it does not say."""
    concerns_our_account: bool = True
    """False when a code about key or balance does not concern our own account, so that the circuit
    breaker does not count it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        proof: BillingEvidence,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.reason = code
        self.proof = proof

    @property
    def note(self) -> FailureNote:
        return FailureNote(
            self.reason,
            self.message,
            retryable=UPSTREAM_CODES[self.reason]
            and self.proof in (BillingEvidence.NEVER_SENT, BillingEvidence.REFUSED),
            charged=not self.proof.disproves_charge,
            param=self.param,
            retry_after_s=self.retry_after_s,
        )
