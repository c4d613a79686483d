"""The use cases that routes may call, in one frozen value."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from app.domain.administration import AuditLog
from app.domain.backup import BackupDownloads, BackupLog
from app.domain.budget import MemoryBudget
from app.domain.catalog import Catalog
from app.domain.limits import Limits
from app.domain.notices import Notices
from app.domain.ports import ImageLinks, ImageStore
from app.domain.references import ReferenceSpool
from app.service.admin_keys import AdminKeys
from app.service.authenticate import Authenticate
from app.service.background import BackgroundTasks
from app.service.caller_limits import KeyedSemaphore, KeyRateLimiter, WaitingCap
from app.service.estimate import EstimateGeneration
from app.service.generate import GenerateImages
from app.service.holder_keys import HolderKeys
from app.service.invitations import Invitations
from app.service.keys import KeyAdmin
from app.service.operations import Operations
from app.service.previews import Previews
from app.service.sessions import Sessions
from app.service.sign_in import SignIn
from app.service.spend_alerts import SpendAlertAdmin
from app.service.tasks import Tasks
from app.service.usage import UsageReports
from app.service.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a route needs, opened and closed by `app.wiring`.

    `house` limits the whole deployment. `answers` bounds the base64 answers being sent to one key,
    `downloads` the pictures being sent by one link or key. `budget` bounds the memory for base64
    answers, `serving` that for downloads."""

    catalog: Catalog
    authenticate: Authenticate
    generate: GenerateImages
    estimate: EstimateGeneration
    tasks: Tasks
    usage: UsageReports
    keys: KeyAdmin
    admin_keys: AdminKeys
    holder_keys: HolderKeys
    sessions: Sessions
    sign_in: SignIn | None
    audit_log: AuditLog
    operations: Operations
    notices: Notices
    spend_alerts: SpendAlertAdmin
    invitations: Invitations
    webhooks: Webhooks
    backups: BackupLog
    downloaded_backups: BackupDownloads
    house: Limits
    zone: ZoneInfo
    pictures: ImageStore
    previews: Previews
    references: ReferenceSpool
    budget: MemoryBudget
    serving: MemoryBudget
    links: ImageLinks
    background: BackgroundTasks
    rate_limiter: KeyRateLimiter
    waiting_cap: WaitingCap
    answers: KeyedSemaphore
    downloads: KeyedSemaphore
