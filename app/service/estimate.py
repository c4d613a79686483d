"""Use case: what a generation would cost and which limits would refuse it. Nothing is reserved."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.domain.cache import CacheOutcome
from app.domain.catalog import Catalog
from app.domain.images import GenerationRequest
from app.domain.limits import LimitKind, LimitSnapshot, LimitStatus
from app.domain.ports import Ledger, ResultCache
from app.domain.principal import CachePolicy, Principal
from app.service.generation import GenerateCommand


@dataclass(frozen=True, slots=True)
class GenerationEstimate:
    """What a request would be at this moment. `unit_micros` is the price of one image, None when it
    is not known; with `cache` HIT or JOINED none is charged. `refused_by` are the limits that would
    refuse it."""

    request: GenerationRequest
    unit_micros: int | None
    cache: CacheOutcome
    refused_by: tuple[LimitStatus, ...]

    @property
    def is_free(self) -> bool:
        return self.cache in (CacheOutcome.HIT, CacheOutcome.JOINED)

    @property
    def micros(self) -> int | None:
        if self.is_free:
            return 0
        return None if self.unit_micros is None else self.request.n * self.unit_micros


@dataclass(frozen=True, slots=True)
class EstimateGeneration:
    catalog: Catalog
    ledger: Ledger
    cache: ResultCache

    async def __call__(self, principal: Principal, command: GenerateCommand) -> GenerationEstimate:
        """Raises `ModelNotFound`, `LedgerUnavailable`."""
        model = principal.resolve_model(self.catalog, command.request.model)
        request = command.request
        estimate = GenerationEstimate(
            request,
            model.price(request.size, request.quality, len(request.references)),
            await self._predict_cache(principal, command),
            (),
        )
        snapshot = await self.ledger.read_limits(principal)
        return replace(estimate, refused_by=tuple(_refusing(estimate, snapshot)))

    async def _predict_cache(self, principal: Principal, command: GenerateCommand) -> CacheOutcome:
        control = command.control
        if principal.cache is CachePolicy.OFF or control.no_store:
            return CacheOutcome.BYPASS
        if control.no_cache:
            return CacheOutcome.MISS
        found = await self.cache.look_up(
            command.request.fingerprint(principal.pool),
            "",
            replace(control, only_if_cached=True),
        )
        if found.outcome is CacheOutcome.BYPASS and not found.stored:
            return CacheOutcome.MISS
        return found.outcome


def _refusing(estimate: GenerationEstimate, snapshot: LimitSnapshot) -> Iterator[LimitStatus]:
    """A limit of requests counts whether or not the cache answers; the others what is bought."""
    bought = 0 if estimate.is_free else 1
    needed = {
        LimitKind.REQUESTS: 1,
        LimitKind.CONCURRENCY: bought,
        LimitKind.IMAGES: bought * estimate.request.n,
        LimitKind.MONEY: estimate.micros or 0,
    }
    for status in snapshot.statuses:
        if status.remaining is not None and needed[status.kind] > status.remaining:
            yield status
