"""Quotas that are used up, refused again without the whole way through the ledger (decision 27).

What is settled does not fall by itself: a request that it refuses is refused until the window ends,
unless a limit changes. So the answer is repeated for a moment, when the same is asked for and no
earlier job or cached picture can answer it for free. A key that goes on beyond its quota would
cost almost as much as one that buys pictures otherwise.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from app.domain.limits import QuotaUsedUp, Scope
from app.domain.ports import Ledger, ResultCache
from app.service.generation import IncomingRequest

RECALL_S, MAX_RECALLED = 1.0, 10_000
"""How long a quota is taken as used up, and of how many keys."""

Asked = tuple[str, int, str, str, int]
"""What the price depends on: model, images, size, quality and reference images."""


@dataclass(frozen=True, slots=True)
class _UsedUp:
    refusal: QuotaUsedUp
    scopes: tuple[Scope, ...]
    asked: Asked
    until_s: float


class UsedUpQuotas:
    def __init__(self, ledger: Ledger, cache: ResultCache) -> None:
        self._ledger, self._cache = ledger, cache
        self._of_key: OrderedDict[str, _UsedUp] = OrderedDict()

    def remember(self, incoming: IncomingRequest, refusal: QuotaUsedUp) -> None:
        """The ledger refused this request."""
        principal = incoming.principal
        left_s = min(refusal.until_ms / 1000 - time.time(), RECALL_S)
        until_s = time.monotonic() + left_s
        self._of_key[principal.key_id] = _UsedUp(
            refusal, principal.all_scopes, _asked(incoming), until_s
        )
        self._of_key.move_to_end(principal.key_id)
        if len(self._of_key) > MAX_RECALLED:
            self._of_key.popitem(last=False)

    async def check(self, incoming: IncomingRequest) -> None:
        """Raises `QuotaUsedUp` when the ledger would. It is not told of the request, which counts
        against no rate."""
        principal = incoming.principal
        used_up = self._of_key.get(principal.key_id)
        if used_up is None or incoming.command.control.only_if_cached:
            return
        if time.monotonic() >= used_up.until_s or used_up.scopes != principal.all_scopes:
            del self._of_key[principal.key_id]
            return
        if used_up.asked != _asked(incoming) or await self._may_be_free(incoming):
            return
        raise QuotaUsedUp(used_up.refusal.message, used_up.refusal.until_ms)

    async def _may_be_free(self, incoming: IncomingRequest) -> bool:
        principal, request = incoming.principal, incoming.command.request
        if await self._ledger.may_repeat(principal, incoming.caller.dedup_keys):
            return True
        if incoming.skips_cache:
            return False
        return await self._cache.may_have(request.fingerprint(principal.pool))


def _asked(incoming: IncomingRequest) -> Asked:
    request = incoming.command.request
    return request.model, request.n, request.size, request.quality, len(request.references)
