"""Failures a command can expect, as one sentence each; anything else is a bug and stays loud."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.adapters.embedded.errors import EmbeddedStoreError
from app.cli.data_dir_owner import explain_unusable_path
from app.cli.errors import CommandFailed
from app.domain.catalog import CatalogError
from app.domain.errors import GatewayError, LedgerDataLost, LedgerUnavailable
from app.domain.gateways import ImageStoreNotShared
from app.domain.media import ImageStoreUnavailable
from app.service.tenants import AdminError

STORE_UNAVAILABLE = (
    "The store does not answer, so nothing was read or changed; check KOI_REDIS_URL and its server "
    "(koi doctor says more)."
)
STORE_LOST_DATA = (
    "The store does not know what this machine's journal remembers: it lost data, or it is another "
    "store. Run `koi ledger rebuild` to put the books together again, or mend KOI_REDIS_URL; to "
    "begin anew on purpose, move KOI_DATA_DIR/journal away first."
)
EXPECTED_ERRORS = (
    AdminError,
    EmbeddedStoreError,
    GatewayError,
    CatalogError,
    ImageStoreNotShared,
    ImageStoreUnavailable,
)


OPERATOR_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOSPC})
"""What a disk says that an operator can mend; anything else is a bug."""


@contextmanager
def translate_errors() -> Iterator[None]:
    try:
        yield
    except LedgerDataLost as error:
        raise CommandFailed(STORE_LOST_DATA) from error
    except LedgerUnavailable as error:
        raise CommandFailed(STORE_UNAVAILABLE) from error
    except OSError as error:
        if error.errno not in OPERATOR_ERRNOS or not isinstance(error.filename, str | bytes):
            raise
        raise CommandFailed(_explain_os_error(error)) from error
    except EXPECTED_ERRORS as error:
        raise CommandFailed(str(error)) from error


def _explain_os_error(error: OSError) -> str:
    path = Path(os.fsdecode(error.filename))
    if error.errno in (errno.EACCES, errno.EPERM):
        return explain_unusable_path(path)
    return f"{path} cannot be used ({error.strerror}): see to its disk; links are not followed."
