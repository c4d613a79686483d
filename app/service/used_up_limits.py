"""Limits that are used up, refused again without the whole way through the ledger (decision 27).

Neither what is settled nor the number of a day's requests falls by itself: what they refuse is
refused until the window ends, unless a limit changes. So the answer is repeated for a moment, when
the same is asked for and no earlier job or cached picture can answer it for free. Otherwise a key
that goes on beyond its quota costs three quarters of what a cache hit does.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.domain.limits import Scope, UsedUp
from app.domain.ports import Ledger, ResultCache
from app.service.generation import IncomingRequest

RECALL_S, MAX_RECALLED = 1.0, 10_000
"""How long a limit is taken as used up, and of how many keys."""

Asked = tuple[str, int, str, str, int]
"""What the price depends on: model, images, size, quality and reference images."""


@dataclass(frozen=True, slots=True)
class _Recalled:
    """`refuse` makes the refusal anew: one that was raised keeps the whole request it was raised
    for."""

    refuse: Callable[[], UsedUp]
    scopes: tuple[Scope, ...]
    asked: Asked
    until_s: float


class UsedUpLimits:
    def __init__(self, ledger: Ledger, cache: ResultCache) -> None:
        self._ledger, self._cache = ledger, cache
        self._of_key: OrderedDict[str, _Recalled] = OrderedDict()

    def remember(self, incoming: IncomingRequest, refusal: UsedUp) -> None:
        """The ledger refused the request."""
        principal = incoming.principal
        left_s = min(refusal.until_ms / 1000 - time.time(), RECALL_S)
        until_s = time.monotonic() + left_s
        refuse = partial(type(refusal), refusal.message, refusal.until_ms)
        self._of_key[principal.key_id] = _Recalled(
            refuse, principal.all_scopes, _asked(incoming), until_s
        )
        self._of_key.move_to_end(principal.key_id)
        if len(self._of_key) > MAX_RECALLED:
            self._of_key.popitem(last=False)

    async def check(self, incoming: IncomingRequest) -> None:
        """Raises `UsedUp` when the ledger would. The ledger does not learn of the request, which
        counts against no rate."""
        principal = incoming.principal
        recalled = self._of_key.get(principal.key_id)
        if recalled is None or incoming.command.control.only_if_cached:
            return
        if time.monotonic() >= recalled.until_s or recalled.scopes != principal.all_scopes:
            del self._of_key[principal.key_id]
            return
        if recalled.asked != _asked(incoming) or await self._may_be_free(incoming):
            return
        raise recalled.refuse()

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
