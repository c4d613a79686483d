"""What a command says about the failures that an operator can do something about."""

import errno
import os
from pathlib import Path

from app.adapters.embedded.errors import EmbeddedStoreError
from app.cli.data_dir_owner import explain_unusable_path
from app.domain.catalog import CatalogError
from app.domain.closed_months import MonthsMoved, MonthUnreadable
from app.domain.errors import GatewayError, LedgerDataLost, LedgerUnavailable
from app.domain.gateways import ImageStoreNotShared
from app.domain.media import ImageStoreUnavailable
from app.domain.other_store import DataVersionUnknown, JournalUnreadable, LedgerMoved
from app.service.admin_errors import AdminError

STORE_UNAVAILABLE = (
    "The store does not answer, so nothing was read or changed; check KOI_REDIS_URL and its server "
    "(koi doctor says more)."
)
STORE_LOST_DATA = (
    "The store does not know what this machine's journal remembers: it lost data, or it is another "
    "store. Gateways buy nothing until this is settled. Run `koi ledger rebuild` to restore the "
    "ledger from the journal, or correct KOI_REDIS_URL; to start with an empty ledger on purpose, "
    "move KOI_DATA_DIR/journal away first."
)
JOURNAL_UNREADABLE = (
    "The store is empty, and this machine's journal cannot be read: it may have lost its data. "
    "Gateways buy nothing until this is settled. Correct KOI_REDIS_URL; or put the journal's files "
    "back (`koi doctor` names them); or run `koi ledger rebuild` with the journals of other "
    "machines (--journal), or `koi restore`; to start with an empty ledger on purpose, move "
    "KOI_DATA_DIR/journal away and restart."
)
LEDGER_MOVED = (
    "This store's ledger was moved to {place}: nothing is read or spent here any more. Set "
    "KOI_REDIS_URL to that store, keep KOI_DATA_DIR as it is, and restart every gateway. If no "
    "gateway has run there yet, `koi migrate --to URL --cancel` opens this one again."
)
NEWER_DATA = (
    "The store's data is of version {found}, and this Koi knows version {known}: nothing was read "
    "or changed. Start the newer Koi again that wrote it, or restore a backup from before."
)
OLDER_DATA = (
    "The store's data is of version {found}, and this Koi works with version {known}: nothing was "
    "read or changed. Stop the gateways, make a backup with the Koi that wrote it, then run "
    "`koi store upgrade`."
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
"""Errors of a disk that an operator can repair; any other one is a bug."""


def explain_error(error: Exception) -> str | None:
    """What happened and what to do; None for a bug."""
    if isinstance(error, LedgerMoved):
        return LEDGER_MOVED.format(place=error.place)
    if isinstance(error, DataVersionUnknown):
        return _explain_version(error)
    if isinstance(error, LedgerDataLost):
        return JOURNAL_UNREADABLE if isinstance(error, JournalUnreadable) else STORE_LOST_DATA
    if isinstance(error, MonthUnreadable):
        return f"{error.message} {error.where}"
    if isinstance(error, MonthsMoved):
        return error.message
    if isinstance(error, LedgerUnavailable):
        return STORE_UNAVAILABLE
    if isinstance(error, OSError):
        known = error.errno in OPERATOR_ERRNOS and isinstance(error.filename, str | bytes)
        return _explain_os_error(error) if known else None
    return str(error) if isinstance(error, EXPECTED_ERRORS) else None


def _explain_version(error: DataVersionUnknown) -> str:
    text = NEWER_DATA if error.found > error.known else OLDER_DATA
    return text.format(found=error.found, known=error.known)


def _explain_os_error(error: OSError) -> str:
    path = Path(os.fsdecode(error.filename))
    if error.errno in (errno.EACCES, errno.EPERM):
        return explain_unusable_path(path)
    return f"{path} cannot be used ({error.strerror}): check its disk; links are not followed."
