"""What gateway processes tell each other through the store: that they are there, and where their
pictures are. Several on one store must share one image store, or links answer 404 at random."""

import asyncio
import secrets
import socket
from contextlib import suppress

import structlog

from app.adapters.redis.gateways import Gateways
from app.domain.errors import LedgerUnavailable
from app.domain.gateways import GatewayRecord, ImageStoreNotShared
from app.domain.media import ImageStoreUnavailable
from app.domain.ports import ImageStore
from app.settings import Settings

BEAT_S = 5.0

log = structlog.get_logger("koi")


class Announcement:
    """One process's part."""

    def __init__(self, gateways: Gateways, pictures: ImageStore, settings: Settings) -> None:
        self._gateways, self._pictures = gateways, pictures
        self._place = place_of(settings)
        self._id = secrets.token_hex(8)
        self._told: str | None = None
        """The image store that was last complained of."""

    async def join(self) -> None:
        """Raises `ImageStoreNotShared`, `ImageStoreUnavailable`; a store that is away is no reason
        not to start."""
        own = await self._record()
        with suppress(LedgerUnavailable):
            other = await self._gateways.join(own)
            if other is not None:
                raise ImageStoreNotShared(own, other)

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            # The directory is named anew each time: it may have been replaced.
            with suppress(LedgerUnavailable, ImageStoreUnavailable):
                self._complain(await self._gateways.beat(await self._record()))

    async def leave(self) -> None:
        with suppress(LedgerUnavailable):
            await self._gateways.leave(self._id)

    def _complain(self, other: GatewayRecord | None) -> None:
        """Two that were kept apart from the store when they started; work that was paid for must
        not be cut off now."""
        images = None if other is None else other.images
        if other is not None and images != self._told:
            log.error(
                "image_store_not_shared",
                host=other.host,
                place=other.place,
                own_place=self._place,
                mend="share one directory or set KOI_IMAGE_STORE to one bucket, and restart",
            )
        self._told = images

    async def _record(self) -> GatewayRecord:
        images = await self._pictures.identity()
        return GatewayRecord(self._id, socket.gethostname(), images, self._place)


def place_of(settings: Settings) -> str:
    """Where pictures are, for a person."""
    if settings.image_store == "file":
        return str((settings.data_dir / "images").absolute())
    return settings.image_store
