"""The gateway as a value: the frozen bundle of use cases the edges may call."""

from dataclasses import dataclass

from app.domain.budget import MemoryBudget
from app.domain.catalog import Catalog
from app.domain.ports import ImageLinks, ImageStore
from app.service.authenticate import Authenticate
from app.service.background import BackgroundTasks
from app.service.caller_limits import KeyedSemaphore, KeyRateLimiter, WaitingCap
from app.service.generate import GenerateImages
from app.service.keys import KeyAdmin
from app.service.tasks import Tasks
from app.service.usage import UsageReports


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a route needs, opened and closed by `app.wiring`.

    `answers` are base64 answers under way by key, `downloads` pictures sent, by link or key;
    `budget` bounds the large parts of base64 answers, `serving` those of downloads."""

    catalog: Catalog
    authenticate: Authenticate
    generate: GenerateImages
    tasks: Tasks
    usage: UsageReports
    keys: KeyAdmin
    pictures: ImageStore
    budget: MemoryBudget
    serving: MemoryBudget
    links: ImageLinks
    background: BackgroundTasks
    rate_limiter: KeyRateLimiter
    waiting_cap: WaitingCap
    answers: KeyedSemaphore
    downloads: KeyedSemaphore
