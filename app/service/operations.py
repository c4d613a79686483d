"""What the operator's console asks for, beside the administration of people and keys."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.calendar import Calendar
from app.domain.check_result import CheckResult
from app.domain.gateways import GatewayRecord
from app.domain.journal import JobChange
from app.domain.ledger import Entry, LedgerAudit, OpenJobStats
from app.domain.limits import LimitStatus
from app.service.adjustments import Adjustments
from app.service.cancel_job import CancelJob
from app.service.job_search import JobSearch
from app.service.people import People
from app.service.people_values import Person
from app.service.usage_export import FocusTerms


@dataclass(frozen=True, slots=True)
class Health:
    """What an operator looks at first. Figures are None while the store does not answer."""

    at_ms: int
    checks: Sequence[CheckResult]
    house: Sequence[LimitStatus] | None
    jobs: OpenJobStats | None
    waiting_for_provider: int
    alarming: Sequence[Person] | None


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting: its variable, its value in words (secrets are masked) and where that came
    from."""

    name: str
    value: str | None
    source: str
    secret: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """How this process was set up; `unknown` are variables that are no setting, each with the
    nearest one, `moved_to` where `koi migrate` moves or moved the ledger, so that nothing is spent
    on this store."""

    version: str
    store_name: str
    image_store: str
    settings: Sequence[SettingInForce]
    unknown: Mapping[str, str | None]
    gateways: Sequence[GatewayRecord] | None
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class BillRequest:
    """A bill of a `provider` (None: the main one) to be compared, and which of its corrections to
    enter: of no job, of all that are certain (None), or of some."""

    name: str
    content: bytes
    since_ms: int | None = None
    until_ms: int | None = None
    within_ms: int | None = None
    capability: str | None = None
    provider: str | None = None
    apply_jobs: frozenset[str] | None = frozenset()


class BillUnreadable(Exception):
    """It is no bill, or nothing of it can be compared; the message says why."""


class Bills(Protocol):
    """The provider's bills against the ledger."""

    async def compare(
        self, bill: BillRequest, enter: Callable[[Entry], Awaitable[Entry]]
    ) -> Mapping[str, object]:
        """The report as `koi ledger import-bill --json` prints it. Raises `BillUnreadable`."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Everything the console's routes need, opened by `app.wiring`. `resolve_after_s` is how long
    unknown jobs are held; `data_dir` and the like are in the texts of `deployment`."""

    people: People
    jobs: JobSearch
    cancel: CancelJob
    adjustments: Adjustments
    bills: Bills
    health: Callable[[], Awaitable[Health]]
    deployment: Callable[[], Awaitable[Deployment]]
    audit: Callable[[], Awaitable[LedgerAudit]]
    calendar: Calendar
    focus: FocusTerms
    resolve_after_s: float
    read_journal: Callable[[str, int, int], Awaitable[Sequence[JobChange]]]
    """What this machine's journal says of a job between two moments (Unix milliseconds)."""
    read_log: Callable[[str], Sequence[str]]
    """The latest lines of this process's log that name a job."""
