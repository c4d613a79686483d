"""What `koi doctor` checks of the running gateways: can all of them read each other's pictures?"""

from collections.abc import Iterator, Sequence

from app.domain.check_result import CheckResult, fail, ok, warn
from app.domain.gateways import GATEWAY_STALE_MS, GatewayRecord

CHECK = "gateways"
NONE_RUNS = "none runs on this store"
FIX = (
    "Mount one directory as KOI_DATA_DIR/images for all of them, or set KOI_IMAGE_STORE to one "
    "s3:// bucket for all of them, and restart."
)


def check_gateways(alive: Sequence[GatewayRecord], own: str) -> Iterator[CheckResult]:
    """`own` names the image store of the settings at hand."""
    if not alive:
        yield ok(CHECK, NONE_RUNS)
        return
    places = {one.images: f"{one.place} on {one.host}" for one in alive}
    if len(places) > 1:
        named = "; ".join(sorted(places.values()))
        text = f"they keep pictures where the others cannot read them ({named}): links answer 404"
        yield fail(CHECK, text, FIX)
    elif own not in places:
        (place,) = places.values()
        yield warn(
            CHECK,
            f"those that run keep their pictures in {place}, which is not the image store of these "
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
