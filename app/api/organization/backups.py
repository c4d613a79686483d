"""/v1/koi/backups: what is known of backups, and one to download."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.organization.access import Administrator, admin_route
from app.api.organization.paging import object_response, seconds
from app.api.organization.wire import BackupBody
from app.api.state import get_edge_settings
from app.domain.administration import AdminScope, AuditNote
from app.domain.backup import LatestBackup
from app.service.teams import one_line

DOWNLOAD_TOKENS = 20


@admin_route(AdminScope.READ)
async def latest(_request: Request, admin: Administrator) -> Response:
    """When the latest backup was made, and how big it is."""
    return object_response(_describe(await admin.gateway.backups.latest()))


@admin_route(AdminScope.ALL)
async def create(request: Request, admin: Administrator) -> Response:
    """The file of `koi backup` without pictures, made while it is sent: nothing is kept here. It
    ends with its checksum, or the connection breaks. One at a time."""
    await admin.charge_read(DOWNLOAD_TOKENS)
    by = AuditNote(admin.actor, "ledger.downloaded", one_line(admin.reason))
    parts = await admin.gateway.downloaded_backups.open(by)
    day = datetime.fromtimestamp(get_edge_settings(request).now(), UTC).date().isoformat()
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="koi-backup-{day}.gz"',
    }
    return StreamingResponse(parts, media_type="application/gzip", headers=headers)


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
