"""What the operator is told without asking: one sentence and its data, at most once per period."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

Datum = str | int | float | None

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class NoticeKind(StrEnum):
    BUDGET_THRESHOLD = "budget.threshold"
    UPSTREAM_BREAKER_OPEN = "upstream.breaker_open"
    LEDGER_DIFFERENCE = "ledger.difference"
    LEDGER_DATA_LOST = "ledger.data_lost"
    DISK_LOW = "disk.low"
    KEY_EXPIRING = "key.expiring"
    LIMIT_REQUESTED = "limit.requested"
    SPENDING_STOPPED = "spending.stopped"
    SPENDING_RESUMED = "spending.resumed"
    NOTICE_TEST = "notice.test"


PERIODS_MS: Mapping[NoticeKind, int] = {
    NoticeKind.BUDGET_THRESHOLD: 32 * DAY_MS,
    NoticeKind.UPSTREAM_BREAKER_OPEN: HOUR_MS,
    NoticeKind.LEDGER_DIFFERENCE: DAY_MS,
    NoticeKind.LEDGER_DATA_LOST: DAY_MS,
    NoticeKind.DISK_LOW: 6 * HOUR_MS,
    NoticeKind.KEY_EXPIRING: 8 * DAY_MS,
    NoticeKind.LIMIT_REQUESTED: HOUR_MS,
    NoticeKind.SPENDING_STOPPED: DAY_MS,
    NoticeKind.SPENDING_RESUMED: DAY_MS,
    NoticeKind.NOTICE_TEST: HOUR_MS,
}
"""For how long the same notice is not published again."""


@dataclass(frozen=True, slots=True)
class Notice:
    """`subject` names what it is about: `house`, `user:ann`, `team:art`, `key:key_…`, `disk`.

    `occasion` tells two notices of one kind and subject apart, such as the window and the share of
    a threshold; within a period the same three are published once. No value of `data` is a secret
    or a prompt.
    """

    kind: NoticeKind
    subject: str
    data: Mapping[str, Datum] = field(default_factory=dict)
    occasion: str = ""

    @property
    def period_ms(self) -> int:
        return PERIODS_MS[self.kind]


class Notices(Protocol):
    """Where notices go: into the store, from where any gateway sends them."""

    async def publish(self, notice: Notice) -> bool:
        """Queue a notice; false when the same one was published within its period already.

        Raises `LedgerUnavailable`. Without a receiver (`KOI_NOTICE_WEBHOOK`) it is kept in the log
        of notices only.
        """


def describe_notice(kind: NoticeKind, subject: str, data: Mapping[str, Datum]) -> str:
    """One sentence in plain English; what `data` does not say is left out."""
    said = {name: "" if value is None else str(value) for name, value in data.items()}
    wanted = data.get("images_per_day")
    more = "" if wanted is None else f" of {wanted} images a day"
    values = _Values(said, whom=name_subject(subject), wanted=more)
    sentence = " ".join(_SENTENCES[kind].format_map(values).split())
    return sentence[0].upper() + sentence[1:]


def name_subject(subject: str) -> str:
    """`user:ann` -> `user ann`; the house is all that this deployment may spend."""
    if subject == "house":
        return "the whole house"
    return subject.replace(":", " ", 1)


class _Values(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ""


_SENTENCES: Mapping[NoticeKind, str] = {
    NoticeKind.BUDGET_THRESHOLD: (
        "{whom} has used {percent} % of its {meter} limit of this {window}: {used} of {limit}."
    ),
    NoticeKind.UPSTREAM_BREAKER_OPEN: (
        "The provider {provider} refuses this gateway's key or balance ({code}); no generation is "
        "sent to it until it accepts one again."
    ),
    NoticeKind.LEDGER_DIFFERENCE: (
        "The counters differ from the ledger by {difference} in all (first {scope}, {window}); run "
        "`koi ledger check`."
    ),
    NoticeKind.LEDGER_DATA_LOST: (
        "The store has lost data, and nothing is spent until `koi ledger rebuild` has put it back."
    ),
    NoticeKind.DISK_LOW: (
        "The disk of {directory} on {host} has {free_mb} MB left; when it is full, every "
        "generation is refused."
    ),
    NoticeKind.KEY_EXPIRING: "Key {key} {name} of user {user} expires in {left}, at {expires_at}.",
    NoticeKind.LIMIT_REQUESTED: "{whom} asks for a higher limit{wanted}: {reason}",
    NoticeKind.SPENDING_STOPPED: "Spending is stopped for {whom} by {actor}: {reason}",
    NoticeKind.SPENDING_RESUMED: "Spending goes on for {whom}; it was resumed by {actor}.",
    NoticeKind.NOTICE_TEST: "This is a test of the notices of {host}.",
}
