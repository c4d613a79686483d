"""What the operator's commands work with."""

import os
import pwd
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from app.adapters.journal.file import DelegatedJournal, FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.audit_log import RedisAuditLog
from app.adapters.redis.backup_log import RedisBackupLog
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.deliveries import RedisDeliveryQueue, RedisNotices
from app.adapters.redis.directory import RedisDirectory
from app.adapters.redis.invitations import RedisInvitations
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.registry import GatewayRegistry, JournalRegistry
from app.adapters.redis.rollups import RedisRollups
from app.adapters.redis.spend_alerts import RedisSpendAlerts
from app.domain.administration import Actor, ActorKind, AuditNote
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.ledger import Entry
from app.service.adjustments import Adjustments
from app.service.admin_keys import AdminKeys
from app.service.cancel_job import CancelJob
from app.service.invitations import Invitations
from app.service.keys import KeyAdmin
from app.service.people import People
from app.service.spend_alerts import SpendAlertAdmin
from app.service.teams import one_line
from app.service.usage import UsageReports
from app.service.usage_export import FocusTerms
from app.service.wait import JobWaiters
from app.settings import Settings
from app.wiring.catalog_file import read_catalog
from app.wiring.focus import build_focus_terms
from app.wiring.journal_replication import JournalReplication, wait_until_replicated
from app.wiring.stores import (
    journal_directory,
    open_ledger,
    open_notices,
    open_operator_journal,
    open_scripts,
    open_store,
    store,
)

if TYPE_CHECKING:
    from app.domain.rebuild import RetentionTerms


MAX_ACTOR_CHARS = 128


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """The open store, the use cases on it, and the settings of one command."""

    settings: Settings
    actor: Actor
    catalog: Catalog
    keys: KeyAdmin
    usage: UsageReports
    scripts: LedgerScripts
    ledger: RedisLedger
    keyring: RedisKeyRing
    journals: JournalRegistry
    gateways: GatewayRegistry
    admin_keys: AdminKeys
    audit_log: RedisAuditLog
    notices: RedisNotices
    invitations: Invitations
    spend_alerts: SpendAlertAdmin
    deliveries: RedisDeliveryQueue
    backups: RedisBackupLog
    store: BatchingStore

    @property
    def adjustments(self) -> Adjustments:
        """Corrections of the ledger, in the name of whoever runs this command."""
        calendar = Calendar(ZoneInfo(self.settings.timezone))
        return Adjustments(self.ledger, self.keys, self.catalog, calendar, find_operator())

    async def cancel(self, job_id: str, reason: str) -> Job:
        """Raises `TaskNotFound`, `TaskNotCancellable`."""
        # Only this command works with the provider's slots.
        from app.wiring.upstream_limiter import find_limiter  # noqa: PLC0415

        limiter_of = partial(find_limiter, self.store, self.settings, self.catalog)
        cancel = CancelJob(self.ledger, JobWaiters(self.ledger), limiter_of)
        note = AuditNote(self.actor, "job.cancelled", one_line(reason))
        return await cancel.as_operator(job_id, note)

    @property
    def people(self) -> People:
        return People(RedisDirectory(self.scripts), self.keys)

    @property
    def focus_terms(self) -> FocusTerms:
        return build_focus_terms(self.settings, self.catalog)

    async def adjust(self, entry: Entry) -> Entry:
        return await self.adjustments.enter(entry)

    def changing(self, reason: str) -> KeyAdmin:
        """The use cases for changes that are made for a reason."""
        return self.keys.acting_as(reason=reason)

    @property
    def terms(self) -> "RetentionTerms":
        from app.wiring.adapters import build_rebuild_terms  # noqa: PLC0415 - only a rebuild asks

        return build_rebuild_terms(self.settings, self.catalog)

    def history(self, directories: Sequence[Path] | None = None) -> JournalHistory:
        """The journals in these directories, or this machine's own."""
        return JournalHistory(directories or [journal_directory(self.settings)])


@asynccontextmanager
async def open_operator_context(settings: Settings) -> AsyncIterator[OperatorContext]:
    """Opens the store for a command; needs no admin key and no running gateway."""
    async with AsyncExitStack() as stack:
        urls = stack.enter_context(store(settings))
        catalog = read_catalog(settings)
        opened = open_store(stack, settings, urls.ledger)
        journal = await open_operator_journal(stack, opened, settings)
        scripts = open_scripts(opened, journal, settings, urls.gone)
        stack.push_async_callback(_publish_changes, journal, JournalRegistry(scripts))
        ledger, keyring = open_ledger(scripts, settings), RedisKeyRing(scripts)
        actor = find_operator()
        keys = KeyAdmin(keyring, catalog, settings.default_limits, actor)
        yield OperatorContext(
            settings=settings,
            actor=actor,
            catalog=catalog,
            keys=keys,
            usage=UsageReports(ledger, RedisRollups(scripts)),
            scripts=scripts,
            ledger=ledger,
            keyring=keyring,
            journals=JournalRegistry(scripts),
            gateways=GatewayRegistry(scripts),
            admin_keys=AdminKeys(keyring, keyring, actor),
            audit_log=RedisAuditLog(scripts),
            notices=open_notices(scripts, settings),
            spend_alerts=SpendAlertAdmin(
                RedisSpendAlerts(scripts, keyring), keyring, catalog, actor
            ),
            invitations=Invitations(RedisInvitations(scripts, keyring), keyring, keys, actor),
            deliveries=RedisDeliveryQueue(scripts),
            backups=RedisBackupLog(scripts),
            store=opened,
        )


def find_operator() -> Actor:
    """Who runs this command: who logged in to this terminal, whatever sudo made of them, or the
    user of the process."""
    try:
        login = os.getlogin()
    except OSError:
        login = _find_process_user()
    return Actor(ActorKind.CLI, f"{login}@{socket.gethostname()}"[:MAX_ACTOR_CHARS])


def _find_process_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container with a numeric user
        return str(os.getuid())


async def _publish_changes(
    journal: FileJournal | DelegatedJournal, journals: JournalRegistry
) -> None:
    """After a change: register the journal that has it, or wait until a gateway's journal does."""
    if not journal.has_changes:
        return
    if isinstance(journal, FileJournal):
        with suppress(LedgerUnavailable, OSError):
            await JournalReplication(journal, journals).register()
    else:
        await wait_until_replicated(journals)
