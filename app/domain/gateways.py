"""The gateway processes on one store: each registers itself and where its pictures are."""

from dataclasses import dataclass

GATEWAY_STALE_MS = 30_000
"""A process without a heartbeat for this long is gone, and must not keep a new one out."""


@dataclass(frozen=True, slots=True)
class GatewayRecord:
    """`id` is random for each process. `images` names the image store: two processes with the same
    name can read each other's pictures. `place` tells a person where that store is. `last_ms` is
    the store's time of the latest heartbeat."""

    id: str
    host: str
    images: str
    place: str
    last_ms: int = 0


class ImageStoreNotShared(Exception):
    """A running gateway keeps its pictures where this one cannot read them."""

    def __init__(self, own: GatewayRecord, other: GatewayRecord) -> None:
        super().__init__(
            f"A gateway on this store ({other.host}) keeps its pictures in {other.place}, which is "
            f"not the image store of this one ({own.place} on {own.host}): callers would get 404 "
            "for every picture that the other one made, so this one does not start. Mount one "
            "directory as KOI_DATA_DIR/images for both, or set KOI_IMAGE_STORE to one s3:// bucket "
            "for both. If that gateway is gone, or its directory was replaced on purpose, start "
            f"again {GATEWAY_STALE_MS // 1000} s after it ended."
        )
