"""Failures a command can expect, as one sentence each; anything else is a bug and stays loud."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.adapters.embedded.failures import EmbeddedStoreError
from app.cli.failure import CommandFailed
from app.cli.owner import cannot_use
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


REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOSPC})
"""What a disk says that an operator can mend; anything else is a bug."""


@contextmanager
def known_failures() -> Iterator[None]:
    try:
        yield
    except LedgerLost as error:
        raise CommandFailed(STORE_LOST) from error
    except LedgerUnavailable as error:
        raise CommandFailed(STORE_AWAY) from error
    except OSError as error:
        if error.errno not in REFUSED or not isinstance(error.filename, str | bytes):
            raise
        raise CommandFailed(_refused(error)) from error
    except EXPECTED as error:
        raise CommandFailed(str(error)) from error


def _refused(error: OSError) -> str:
    place = Path(os.fsdecode(error.filename))
    if error.errno in (errno.EACCES, errno.EPERM):
        return cannot_use(place)
    return f"{place} cannot be used ({error.strerror}): see to its disk; links are not followed."
