"""A look at the provider: can it be reached, and does it know our key? Costs nothing.

The doctor's finding, and one line in the log at each start.
"""

import asyncio
import threading

import structlog

from app.adapters.upstream.reach import Outlook, Sight, look
from app.cli.finding import Finding, Mark, fail
from app.settings import Settings

log = structlog.get_logger("koi.serve")

CHECK = "provider"
MARKS = {
    Outlook.GOOD: Mark.OK,
    Outlook.OPEN: Mark.WARN,
    Outlook.DOUBTFUL: Mark.WARN,
    Outlook.BAD: Mark.FAIL,
}


async def check_provider(settings: Settings) -> list[Finding]:
    """Ask for the list of models, which providers of this kind answer without charging."""
    key = settings.upstream_key
    if key is None:
        mend = "Set KOI_UPSTREAM_API_KEY or KOI_UPSTREAM_API_KEY_FILE to the provider's key."
        return [fail(CHECK, "no upstream key is set", mend)]
    sight = await look(settings.upstream_base_url, key)
    return [Finding(CHECK, MARKS[sight.outlook], sight.text, sight.mend)]


def look_at_start(settings: Settings) -> None:
    """Tell once how the provider looks. On a thread that nothing waits for: serving begins
    whatever the answer is, and ends without it."""
    key = settings.upstream_key
    if key is None:
        return

    def work() -> None:
        _tell(asyncio.run(look(settings.upstream_base_url, key)))

    threading.Thread(target=work, name="look at the provider", daemon=True).start()


def _tell(sight: Sight) -> None:
    tell = log.warning if sight.worrying else log.info
    tell("provider_checked", host=sight.host, found=sight.text, mend=sight.mend or None)
