"""What an operator's command works with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.adapters.journal.elsewhere import Elsewhere
from app.adapters.journal.file import FileJournal
from app.adapters.journal.history import History
from app.adapters.redis.gateways import Gateways
from app.adapters.redis.journals import Journals
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.domain.catalog import Catalog
from app.domain.errors import LedgerUnavailable
from app.domain.ports import ImageStore
from app.domain.rebuild import Terms
from app.service.keys import Keys
from app.service.usage import Usage
from app.settings import Settings
from app.wiring.correspondence import Correspondence, copied_by_some_gateway
from app.wiring.parts import open_pictures, read_catalog, terms_of
from app.wiring.stores import (
    journal_directory,
    office_journal,
    open_book,
    open_ledger,
    open_store,
    store,
)


@dataclass(frozen=True, slots=True)
class Office:
    """What an operator's command works with: the store and the use cases on it."""

    settings: Settings
    catalog: Catalog
    keys: Keys
    usage: Usage
    ledger: RedisLedger
    keyring: RedisKeyRing
    journals: Journals
    gateways: Gateways
    pictures: ImageStore
    terms: Terms

    def history(self, directories: Sequence[Path] | None = None) -> History:
        """The journals in these directories, or this machine's own."""
        return History(directories or [journal_directory(self.settings)])


@asynccontextmanager
async def open_office(settings: Settings) -> AsyncIterator[Office]:
    """The operator's view: no admin key and no running gateway needed."""
    async with AsyncExitStack() as stack:
        urls = stack.enter_context(store(settings))
        catalog = read_catalog(settings)
        opened = open_store(stack, settings, urls.ledger)
        journal = await office_journal(stack, opened, settings)
        book = open_book(opened, journal, settings, urls.gone)
        stack.push_async_callback(_spread, journal, Journals(book))
        ledger, keyring = open_ledger(book, settings), RedisKeyRing(book)
        yield Office(
            settings=settings,
            catalog=catalog,
            keys=Keys(keyring, catalog, settings.default_limits),
            usage=Usage(ledger),
            ledger=ledger,
            keyring=keyring,
            journals=Journals(book),
            gateways=Gateways(book),
            pictures=open_pictures(stack, settings),
            terms=terms_of(settings),
        )


async def _spread(journal: FileJournal | Elsewhere, journals: Journals) -> None:
    """A command that changed something says where it wrote that down, or sees that others did."""
    if not journal.wrote:
        return
    if isinstance(journal, FileJournal):
        with suppress(LedgerUnavailable, OSError):
            await Correspondence(journal, journals).enlist()
    else:
        await copied_by_some_gateway(journals)
