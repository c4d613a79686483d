"""Failures a command can expect, as one sentence each; anything else is a bug and stays loud."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.adapters.embedded.failures import EmbeddedStoreError
from app.cli.failure import CommandFailed
from app.domain.catalog import CatalogInvalid
from app.domain.errors import GatewayError, LedgerLost, LedgerUnavailable
from app.domain.gateways import ImageStoreNotShared
from app.domain.media import ImageStoreUnavailable
from app.service.people import KeysError

STORE_AWAY = (
    "The store does not answer, so nothing was read or changed; check KOI_REDIS_URL and its server "
    "(koi doctor says more)."
)
STORE_LOST = (
    "The store does not know what this machine's journal remembers: it lost data, or it is another "
    "store. Run `koi ledger rebuild` to put the books together again, or mend KOI_REDIS_URL; to "
    "begin anew on purpose, move KOI_DATA_DIR/journal away first."
)
EXPECTED = (
    KeysError,
    EmbeddedStoreError,
    GatewayError,
    CatalogInvalid,
    ImageStoreNotShared,
    ImageStoreUnavailable,
)


@contextmanager
def known_failures() -> Iterator[None]:
    try:
        yield
    except LedgerLost as error:
        raise CommandFailed(STORE_LOST) from error
    except LedgerUnavailable as error:
        raise CommandFailed(STORE_AWAY) from error
    except EXPECTED as error:
        raise CommandFailed(str(error)) from error
