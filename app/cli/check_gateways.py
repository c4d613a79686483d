"""The doctor's look at the gateways at work: whether all of them can read each other's pictures."""

from collections.abc import Iterator, Sequence

from app.cli.check_result import CheckResult, fail, ok, warn
from app.domain.gateways import GATEWAY_STALE_MS, GatewayRecord

CHECK = "gateways"
FIX = (
    "Mount one directory as KOI_DATA_DIR/images for all of them, or set KOI_IMAGE_STORE to one "
    "s3:// bucket for all of them, and restart."
)


def check_gateways(alive: Sequence[GatewayRecord], own: str) -> Iterator[CheckResult]:
    """`own` names the image store of the settings at hand."""
    if not alive:
        yield ok(CHECK, "none is at work on this store")
        return
    places = {one.images: f"{one.place} on {one.host}" for one in alive}
    if len(places) > 1:
        named = "; ".join(sorted(places.values()))
        text = f"they keep pictures in places the others cannot read ({named}): links answer 404"
        yield fail(CHECK, text, FIX)
    elif own not in places:
        (place,) = places.values()
        yield warn(
            CHECK,
            f"those at work keep their pictures in {place}, which is not the image store of these "
            "settings: a gateway started with them would be refused",
            f"Run this command with the gateways' own settings. To add a gateway: {FIX}",
        )
    else:
        (place,) = places.values()
        yield ok(
            CHECK,
            f"processes heard of in the last {GATEWAY_STALE_MS // 1000} s: {len(alive)}; "
            f"all share {place}",
        )
