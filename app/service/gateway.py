"""The gateway as a value: the frozen bundle of use cases the edges may call."""

from dataclasses import dataclass

from app.domain.budget import ByteBudget
from app.domain.catalog import Catalog
from app.domain.ports import ImageStore, Links
from app.service.drain import Drain
from app.service.generate import GenerateImages
from app.service.identify import Identify
from app.service.keys import Keys
from app.service.pace import KeyPace
from app.service.shares import Turns, WaitingShare
from app.service.tasks import Tasks
from app.service.usage import Usage


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a route needs, opened and closed by `app.wiring`.

    `answers` are base64 answers under way by key, `downloads` pictures sent, by link or key;
    `budget` bounds the large parts of base64 answers, `serving` those of downloads."""

    catalog: Catalog
    identify: Identify
    generate: GenerateImages
    tasks: Tasks
    usage: Usage
    keys: Keys
    pictures: ImageStore
    budget: ByteBudget
    serving: ByteBudget
    links: Links
    drain: Drain
    pace: KeyPace
    waiting: WaitingShare
    answers: Turns
    downloads: Turns
