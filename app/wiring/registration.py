"""How gateway processes register in the store, with the place of their pictures (decision 28).

Gateways on one store must share one image store, or picture links answer 404 at random.
"""

import asyncio
import secrets
import socket
from contextlib import suppress

import structlog

from app.adapters.redis.registry import GatewayRegistry
from app.domain.errors import LedgerUnavailable
from app.domain.gateways import GatewayRecord, ImageStoreNotShared
from app.domain.media import ImageStoreUnavailable
from app.domain.ports import ImageStore
from app.settings import Settings

HEARTBEAT_INTERVAL_S = 5.0

log = structlog.get_logger("koi")


class GatewayRegistration:
    """One process's part."""

    def __init__(self, gateways: GatewayRegistry, pictures: ImageStore, settings: Settings) -> None:
        self._gateways, self._pictures = gateways, pictures
        self._place = describe_image_store(settings)
        self._id = secrets.token_hex(8)
        self._reported_store: str | None = None
        """The other image store that was last logged as not shared."""

    async def register(self) -> None:
        """Raises `ImageStoreNotShared`, `ImageStoreUnavailable`. The process starts also when the
        store is unavailable."""
        own = await self._build_record()
        with suppress(LedgerUnavailable):
            other = await self._gateways.register(own)
            if other is not None:
                raise ImageStoreNotShared(own, other)

    async def send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            # The record is built each time, because the directory may have been replaced.
            with suppress(LedgerUnavailable, ImageStoreUnavailable):
                self._report_unshared_store(
                    await self._gateways.heartbeat(await self._build_record())
                )

    async def unregister(self) -> None:
        with suppress(LedgerUnavailable):
            await self._gateways.unregister(self._id)

    def _report_unshared_store(self, other: GatewayRecord | None) -> None:
        """Log an image store that is not shared. Two gateways may have started while the store was
        unavailable; they go on, because their running jobs are paid for."""
        images = None if other is None else other.images
        if other is not None and images != self._reported_store:
            log.error(
                "image_store_not_shared",
                host=other.host,
                place=other.place,
                own_place=self._place,
                fix="share one directory or set KOI_IMAGE_STORE to one bucket, and restart",
            )
        self._reported_store = images

    async def _build_record(self) -> GatewayRecord:
        images = await self._pictures.identity()
        return GatewayRecord(self._id, socket.gethostname(), images, self._place)


def describe_image_store(settings: Settings) -> str:
    """Where the pictures are, in words for a person."""
    if settings.image_store == "file":
        return str((settings.data_dir / "images").absolute())
    return settings.image_store
