"""The machine that drives two gateways, one store and a model of it through the same histories.

Which invariant (decision 29) is kept where:

* I1 cap, I2 sign: admission says exactly what the model says, and what the store then holds is
  read back (`Verbs.admit`); every counter equals the model's after every step (`the_ledger_...`).
* I3 conservation, I10 windows: the ledger's own audit at the end, after every rebuild and every
  correction; the model's counters are sums over entries and open jobs.
* I4 one terminal: `Verbs.end` says who was first; one entry per job at the end.
* I5 complete metering, I6 no release without proof, I7 fair charge: every entry against the
  provider's own bill at the end (`Ending.fair`), every conclusion against `verdict`.
* I8 one dispatch: a job is posted once (`Provider.post`), an Idempotency-Key buys once
  (`Losses.bought_once`); which job a repeat joins is what the model says (`ledger_repeats`).
* I9 bounded hold: at the end pollers alone must end everything in a few rounds (`resolve`).
* I12 replay: the job a key is answered from is compared whole; another body is refused.
* I14 fail closed: `Verbs.do`, and a ledger that is rebuilt equals the model again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ledger_config import BODIES, PEOPLE, Asked, Config, VirtualCalendar, Who, limits
from ledger_losses import Losses
from ledger_model import Model
from ledger_world import FATES, PIECE, Fate, Process, Provider, Request
from store_rig import delivered

from app.adapters.redis.client.batching import BatchingStore
from app.domain.limits import Limits

TIMELY_S = 4.0
"""An example that takes longer on a busy machine is dropped: the shortest threshold is 5 s."""
SCOPE_KEYS = ("key:key_1", "user:ann", "team:art", "house:house")
some = st.integers(0, 1000)
one = st.integers(0, 1)
fates = st.sampled_from(FATES)


@dataclass(frozen=True)
class Call:
    """A request as drawn, and how many of its steps are done at once; the reservation may have
    lapsed by then."""

    who: Who
    body: str
    key: str | None
    is_sdk_retry: bool
    fresh: bool
    presence: str | None
    rate_checked: bool
    lapsed: bool
    fates: tuple[Fate, ...]
    steps: int


calls = st.builds(
    Call,
    who=st.sampled_from(PEOPLE),
    body=st.sampled_from(tuple(BODIES)),
    key=st.sampled_from((None, None, None, None, "k", "l")),
    is_sdk_retry=st.sampled_from((False, False, True)),
    fresh=st.sampled_from((False, False, True)),
    presence=st.sampled_from((None, None, None, "here", "here", "left", "silent")),
    rate_checked=st.sampled_from((False, False, True)),
    lapsed=st.sampled_from((False, False, True)),
    fates=st.tuples(fates, fates),
    steps=st.sampled_from((1, 2, 2, 3, 4, 5, 6)),
)


class LedgerMachine(Losses, RuleBasedStateMachine):
    """`loop`, `store`, `shelf`, `disk` and `compute_outcome` are given by the test that runs it."""

    store: BatchingStore
    disk: Callable[[], Path]
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.shelf.empty()
        self.config, self.model = Config(VirtualCalendar()), Model()
        self.provider, self.doubtful = Provider(), set()
        self.now, self.happened, self.quarantined, self.touched = 0, 0, False, True
        self.began = time.monotonic()
        self.pasts, self.copies, self.epochs, self.passes = [], [], [], []
        self.two = [Process(self.store, self.config.calendar, self.disk()) for _ in range(2)]

    # Requests ----------------------------------------------------------------------------------

    @initialize(
        given=st.fixed_dictionaries(dict.fromkeys(SCOPE_KEYS, limits)),
        process=one,
        calls=st.lists(calls, min_size=1, max_size=4),
    )
    def start_history(self, given: dict[str, Limits], process: int, calls: list[Call]) -> None:
        """Each gateway has written something once, so that each knows the epoch of the store."""
        self.config.limits = given
        self.begin()
        self.send_all(process, calls)

    @rule(process=one, calls=st.lists(calls, min_size=1, max_size=4))
    def request(self, process: int, calls: list[Call]) -> None:
        self.send_all(process, calls)

    def send_all(self, process: int, calls: list[Call]) -> None:
        for call in calls:
            asked = Asked(
                call.who, call.body, *BODIES[call.body], call.key, call.is_sdk_retry, call.fresh,
                call.presence,
            )  # fmt: skip
            self.send(process, asked, call)

    @rule(
        process=one, which=some, calls=st.lists(calls, min_size=1, max_size=3),
        other_body=st.sampled_from((False,) * 6 + (True,)),
    )  # fmt: skip
    def repeat(self, process: int, which: int, calls: list[Call], other_body: bool) -> None:
        """The same request again, now and then with another body under its key."""
        for call in calls if self.asked else ():
            first = self.asked[which % len(self.asked)]
            body = call.body if other_body and first.key else first.body
            asked = Asked(
                first.who, body, *BODIES[body], first.key or call.key, call.is_sdk_retry,
                call.fresh, call.presence,
            )  # fmt: skip
            self.send(process, asked, call)

    def send(self, process: int, asked: Asked, call: Call) -> None:
        sender = self.two[process]
        self.asked.append(asked)
        stage = "new" if call.rate_checked else "arrived"
        request = Request(
            asked, self.admission_of(asked, call.lapsed), call.fates[: len(asked.parts)], stage
        )
        sender.requests.append(request)
        self.go(sender, request, call.steps)

    @rule(which=some, steps=st.integers(1, 5), swept=st.booleans())
    def go_on(self, which: int, steps: int, swept: bool) -> None:
        """Perhaps the other gateway has just claimed what is due."""
        waiting = [(p, r) for p in self.two for r in p.requests if r.stage != "over"]
        if not waiting:
            return
        process, request = waiting[which % len(waiting)]
        if swept:
            other = self.two[process is self.two[0]]
            with self.refusable():
                other.claims += self.claim(other, 20)
        self.go(process, request, steps)

    @rule(which=some, served=st.booleans())
    def leave(self, which: int, served: bool) -> None:
        """A caller goes away before its answer, or with it."""
        waiting = [(p, r.job_id, r.wanted.job_id) for p in self.two for r in p.requests if r.job_id]
        if waiting:
            leaves = self.receive if served else self.abandon
            with self.refusable():
                leaves(*waiting[which % len(waiting)])

    # Processes and pollers ---------------------------------------------------------------------

    @rule(process=one, crash=st.booleans())
    def restart(self, process: int, crash: bool) -> None:
        """The death of a process; or only its outbox is delivered."""
        if crash:
            self.two[process].crash()
        self.deliver_all(self.two[process])

    @rule(process=one, lease=st.sampled_from((-1, 20)), at_once=st.booleans())
    def take(self, process: int, lease: int, at_once: bool) -> None:
        """Deliver the outbox, claim whatever is due, and look at it now or later."""
        poller = self.two[process]
        self.deliver_all(poller)
        with self.refusable():
            claims = self.claim(poller, lease)
            poller.claims += claims
            if at_once:
                self.poll_all(poller)

    @rule(which=some)
    def poll_one(self, which: int) -> None:
        """However old the claim is by now: another poller may hold the job."""
        claimed = [(p, claim) for p in self.two for claim in p.claims]
        if claimed:
            process, claim = claimed[which % len(claimed)]
            process.claims.remove(claim)
            with self.refusable():
                self.handle_claim(process, claim)

    @rule(
        process=one, which=some, how=st.sampled_from(("cancel", "again", "again", "free", "charge"))
    )
    def meddle(self, process: int, which: int, how: str) -> None:
        """Cancel, settle what was settled, or ask for what nobody may have (I6, I7)."""
        jobs = list(self.model.jobs.values())
        if not jobs:
            return
        job = jobs[which % len(jobs)]
        with self.refusable():
            if how == "cancel":
                self.cancels(self.two[process], job)
            elif how == "again" and not job.open:
                self.end(self.two[process], job.id, delivered(job.n))
            elif how in ("free", "charge") and job.state.value in "DU":
                self.refuses(self.two[process], job.id, free=how == "free", n=job.n)

    # Time, limits and the operator -------------------------------------------------------------

    @rule(pieces=st.sampled_from((1, 2, 2, 4)))
    def time_passes(self, pieces: int) -> None:
        self.pass_time(pieces * PIECE)

    @rule(process=one, pieces=st.sampled_from((0, 1, 2)), alone=st.sampled_from((False, True)))
    def the_operator_acts(self, process: int, pieces: int, alone: bool) -> None:
        """The store is copied while all is well; a lost ledger is rebuilt, at first perhaps without
        the other host's journal."""
        if self.whole:
            self.keep_copy()
            self.pass_time(pieces * PIECE)
        else:
            self.rebuild(self.two[process], alone=alone)

    @rule(days=st.sampled_from((0, 1, 1, 3)), scope_key=st.sampled_from(SCOPE_KEYS), limit=limits)
    def limits_change(self, days: int, scope_key: str, limit: Limits) -> None:
        """Midnight, perhaps of a month's last day; and other limits, lower ones too."""
        self.config.calendar.advance(days)
        self.config.limits[scope_key] = limit

    @rule(
        process=one,
        who=st.sampled_from(PEOPLE),
        images=st.integers(-3, 3),
        micros=st.integers(-5, 5),
    )
    def the_operator_corrects(self, process: int, who: Who, images: int, micros: int) -> None:
        with self.refusable():
            self.correct(self.two[process], who, images, micros)
            self.run(self.audited(self.two[process]))

    # Losses ------------------------------------------------------------------------------------

    @rule(which=st.integers(-1, 1))
    def the_store_is_lost(self, which: int) -> None:
        """Emptied, or replaced by an old copy of itself."""
        if self.whole and self.model.jobs:
            self.lose(self.copies[which] if 0 <= which < len(self.copies) else None)

    # What always holds -------------------------------------------------------------------------

    @invariant()
    def in_time(self) -> None:
        assume(time.monotonic() - self.began < TIMELY_S)

    @invariant()
    def the_ledger_equals_the_model(self) -> None:
        if self.touched:
            self.run(self.compare())

    def teardown(self) -> None:
        try:
            if not self.whole:
                self.rebuild(self.two[0], alone=False)
            self.settle_everything()
            self.bought_once()
        finally:
            for process in self.two:
                process.journal.close()
