"""Corrections of the ledger by an operator: new entries, nothing is ever rewritten."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.administration import Actor, AuditNote
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.images import digest
from app.domain.ledger import Entry, EntryKind, correction_id
from app.domain.money import format_micros
from app.service.admin_errors import AdjustmentRefused, JobUnknown, ModelUnknown
from app.service.job_story import MAX_ENTRIES_OF_ONE, read_story
from app.service.keys import KeyAdmin
from app.service.teams import one_line

if TYPE_CHECKING:
    from app.domain.ports import Ledger


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an operator wants changed: images, and money (None: at the catalog's price)."""

    images: int
    micros: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class JobTotal:
    """What a job is charged by now: its own entry, which says whose days and months it counts in,
    and the sums of all its entries, corrections included."""

    own: Entry
    entries: Sequence[Entry]
    currency: str

    @property
    def images(self) -> int:
        return sum(entry.images for entry in self.entries)

    @property
    def known_micros(self) -> int:
        """Without what had no price."""
        return sum(entry.micros or 0 for entry in self.entries)

    @property
    def micros(self) -> int | None:
        """None where an image of it had no price."""
        unpriced = any(entry.micros is None and entry.images for entry in self.entries)
        return None if unpriced else self.known_micros

    @property
    def newest(self) -> str:
        """The id of its latest entry that charges or gives back."""
        return [entry.id for entry in self.entries if entry.kind is not EntryKind.DELIVERY][-1]

    def check(self, entry: Entry) -> None:
        """A job gives back no more than it is charged, however often a script asks. Raises
        `AdjustmentRefused`."""
        if self.images + entry.images < 0 or self.known_micros + (entry.micros or 0) < 0:
            raise AdjustmentRefused(
                f"Job {self.own.job} is charged {self.images} images and {self._money} by now, its "
                "corrections included; this would take back more. Nothing was changed."
            )

    @property
    def _money(self) -> str:
        amount = f"{format_micros(self.known_micros)} {self.currency}"
        if self.micros is not None:
            return amount
        known = f", of which {amount} is known" if self.known_micros else ""
        return f"an amount that is unknown, for want of a price{known},"


@dataclass(frozen=True, slots=True)
class Refund:
    """Its entry, and how many images the job is charged after it."""

    entry: Entry
    job_images: int


class Adjustments:
    """The audit log will say that `actor` made every correction."""

    def __init__(
        self, ledger: "Ledger", keys: KeyAdmin, catalog: Catalog, calendar: Calendar, actor: Actor
    ) -> None:
        self._ledger, self._keys, self._catalog = ledger, keys, catalog
        self._calendar, self._actor = calendar, actor

    def acting_as(self, actor: Actor) -> "Adjustments":
        return Adjustments(self._ledger, self._keys, self._catalog, self._calendar, actor)

    async def enter(self, entry: Entry) -> Entry:
        """Raises `InvalidRequest` for one that would make a counter negative, and
        `AdjustmentRefused` when its id stands for another correction by now."""
        note = AuditNote(self._actor, "ledger.adjusted", one_line(entry.note or ""))
        entered = await self._ledger.adjust(entry, note)
        if _content(entered) != _content(entry):
            what = f"job {entry.job}" if entry.job else f"user {entry.user}"
            raise AdjustmentRefused(
                f"Somebody corrected {what} just now, or under the same id, as entry {entered.id}: "
                f"{entered.images:+d} images, {entered.note or 'no note'}. "
                "Nothing was changed; look again."
            )
        return entered

    async def adjust_job(self, job_id: str, wanted: Adjustment) -> Entry:
        """Raises `JobUnknown`, `AdjustmentRefused`."""
        total = await self._sum_job(job_id, most=None)
        return await self._correct(total, _build_entry(total.own, wanted, self._catalog))

    async def _correct(self, total: JobTotal, entry: Entry) -> Entry:
        """What was judged by one state of the job is entered while it has that state: whoever
        judged by the same one finds the id taken, a bill included (`correction_id`)."""
        total.check(entry)
        return await self.enter(replace(entry, id=correction_id(entry.job, total.newest)))

    async def adjust_user(
        self, name: str, model: str, wanted: Adjustment, request: str | None = None
    ) -> Entry:
        """Counts in the user's day and month of today; entered once under one name of a `request`.
        Raises `UserUnknown`, `ModelUnknown`, and `AdjustmentRefused` when the name stands for
        another correction."""
        user = await self._keys.user(name)
        found = self._catalog.find(model)
        if found is None:
            raise ModelUnknown(f"There is no enabled model {model!r} in the catalog.")
        now = datetime.fromtimestamp(await self._keys.now_ms() / 1000, UTC)
        today = self._calendar.day(now.astimezone(self._calendar.zone).date())
        blank = empty_entry(name, today.label, today.month)
        blank = replace(blank, team=user.team, model=found.name)
        entry = _build_entry(blank, wanted, self._catalog)
        id = "" if request is None else digest("adjustment", name, request)
        return await self.enter(replace(entry, id=id))

    async def refund(self, job_id: str, images: int | None, note: str, since_ms: int = 0) -> Refund:
        """Give back so many images of a job (None: all), with their money. The same refund asked
        for again is entered once. Of an expired job it is found among the newest entries only,
        from `since_ms` on. Raises `JobUnknown`, `AdjustmentRefused`."""
        total = await self._sum_job(job_id, since_ms)
        if (before := _find_refund(total, images, note)) is not None:
            return Refund(before, total.images)
        if images is None:
            wanted = Adjustment(-total.images, -total.known_micros, note)
        else:
            wanted = Adjustment(-images, None, note)
        entry = _build_entry(total.own, wanted, self._catalog)
        if images is None and total.micros is None and not total.known_micros:
            entry = replace(entry, micros=None)  # what it costs by now is not what was charged
        if not entry.images and not entry.micros:
            raise AdjustmentRefused(f"Job {job_id} is charged nothing. Nothing was changed.")
        entered = await self._correct(total, entry)
        return Refund(entered, total.images + entered.images)

    async def _sum_job(
        self, job_id: str, since_ms: int = 0, most: int | None = MAX_ENTRIES_OF_ONE
    ) -> JobTotal:
        """Raises `JobUnknown`, and `AdjustmentRefused` for one that is not settled yet."""
        story = await read_story(self._ledger, job_id, since_ms, most)
        if story.end is not None:
            return JobTotal(story.end, story.entries, self._catalog.currency)
        if story.job is not None:
            raise AdjustmentRefused(
                f"Job {job_id} has not been settled yet; correct it once it has."
            )
        raise JobUnknown(f"The ledger has no entry of a job {job_id!r}; see `koi ledger export`.")


def empty_entry(user: str, day: str, month: str) -> Entry:
    return Entry(
        id="",
        kind=EntryKind.ADJUST,
        at_ms=0,
        job="",
        key="",
        user=user,
        team=None,
        model="",
        size="",
        quality="",
        images=0,
        micros=None,
        delivered=0,
        presumed=0,
        surplus=0,
        day=day,
        month=month,
    )


def _content(entry: Entry) -> tuple[object, ...]:
    """What makes it the same correction."""
    return entry.user, entry.model, entry.images, entry.micros, entry.note


def _find_refund(total: JobTotal, images: int | None, note: str) -> Entry | None:
    """The same refund, entered before: of all, when nothing is charged any more."""
    for entry in total.entries:
        same = entry.kind is EntryKind.ADJUST and entry.note == note and entry.images <= 0
        if same and (entry.images == -images if images is not None else not total.images):
            return entry
    return None


def _build_entry(template: Entry, wanted: Adjustment, catalog: Catalog) -> Entry:
    micros = wanted.micros
    if micros is None:
        micros = _at_catalog_price(template, wanted.images, catalog)
    return replace(
        template, id="", kind=EntryKind.ADJUST, images=wanted.images, micros=micros,
        delivered=0, presumed=0, surplus=0, surplus_micros=0, proof=None, code=None,
        note=wanted.note, calls=(), dispatched_ms=None, asked=None,
    )  # fmt: skip


def _at_catalog_price(template: Entry, images: int, catalog: Catalog) -> int | None:
    """What the images cost: as the job was charged, unknown where it was charged without a price,
    else as the catalog says today. Raises `AdjustmentRefused` where the price depends on what the
    job was given, which no entry says."""
    if template.images:
        return None if template.micros is None else images * template.micros // template.images
    found = catalog.find(template.model)
    if found is None:
        return None
    if template.job and found.reference_micros:
        raise AdjustmentRefused(
            f"Job {template.job} is charged nothing, and {found.name} costs more with reference "
            "images: give the amount. Nothing was changed."
        )
    price = found.price(
        template.size or found.default_size, template.quality or found.default_quality
    )
    return None if price is None else images * price
