"""/v1/koi/backups: what is known of backups. The files themselves never leave by HTTP."""

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization.access import Administrator, admin_route
from app.api.organization.paging import object_response, seconds
from app.api.organization.wire import BackupBody
from app.domain.administration import AdminScope
from app.domain.backup import LatestBackup


@admin_route(AdminScope.READ)
async def latest(_request: Request, admin: Administrator) -> Response:
    """When the latest backup was made, and how big it is."""
    return object_response(_describe(await admin.gateway.backups.latest()))


def _describe(found: LatestBackup | None) -> BackupBody:
    if found is None:
        return {
            "object": "koi.backup", "taken_at": None, "bytes": None, "entries": None,
            "pictures": None, "sequence": None,
        }  # fmt: skip
    return {
        "object": "koi.backup",
        "taken_at": seconds(found.taken_ms),
        "bytes": found.size_bytes,
        "entries": found.entries,
        "pictures": found.pictures,
        "sequence": found.seq,
    }
