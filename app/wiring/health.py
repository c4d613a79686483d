"""Whether new work should come here."""

from app.domain.errors import LedgerUnavailable
from app.service.drain import Drain
from app.wiring.parts import World


async def readiness(world: World, drain: Drain) -> tuple[bool, dict[str, str]]:
    """Ready unless draining or unable to spend; the provider's health decides nothing here."""
    words = {
        "ledger": await _ledger_word(world),
        "journal": "ok" if world.journal.ready() else "failing",
        "gateway": "draining" if drain.draining else "ok",
    }
    return set(words.values()) == {"ok"}, words


async def _ledger_word(world: World) -> str:
    if not world.ledger.intact:
        return "lost_data"
    try:
        await world.store.ping()
    except LedgerUnavailable:
        return "unavailable"
    return "ok"
