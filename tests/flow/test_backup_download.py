"""A backup that an operator downloads: whole or not at all, one at a time, audited and noted."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.domain.administration import Actor, ActorKind, AdminScope, AuditNote, Conflict
from app.recovery.backup_file import BackupReader, RowKind
from app.recovery.download import LedgerDownloads
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.command import Cli
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway

ADMIN_KEY = "admin-7f0c1e5a9b3d4c2f"
BACKUPS = "/v1/koi/backups"


@pytest.fixture(scope="module")
def koi(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    with (
        EmbeddedStore(tmp_path_factory.mktemp("store")) as store,
        gateway(provider, store.url, tmp_path_factory.mktemp("koi"), admin_key=ADMIN_KEY) as koi,
    ):
        with koi.client(koi.key("ann")) as user:
            assert user.post(GENERATE, json=KOI).status_code == 200
        koi.settled()
        yield koi


@pytest.fixture
def admin(koi: Koi) -> Iterator[httpx.Client]:
    with koi.client(ADMIN_KEY) as client:
        yield client


def test_the_file_is_a_whole_backup_and_is_noted_and_audited(
    koi: Koi, admin: httpx.Client, tmp_path: Path
) -> None:
    answer = admin.post(BACKUPS, headers={"x-koi-reason": "before the move"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"].startswith('attachment; filename="koi-backup-')
    file = tmp_path / "koi.gz"
    file.write_bytes(answer.content)
    said = Cli(tmp_path, {"KOI_REDIS_URL": str(koi.settings.redis_url)}).json(
        "backup", "--check", str(file)
    )
    latest = admin.get(f"{BACKUPS}/latest").json()
    log = admin.get("/v1/organization/audit_logs").json()["data"]
    rows = list(BackupReader(file))

    assert (said["entries"], said["keys"], said["pictures"]) == (1, 1, 0)
    assert (latest["entries"], latest["bytes"]) == (1, len(answer.content))
    admin.post(BACKUPS)
    again = admin.get("/v1/organization/audit_logs").json()["data"]
    (record,) = [one for one in log if one["koi"]["kind"] == "ledger.downloaded"]
    assert [one["koi"]["kind"] for one in again].count("ledger.downloaded") == 2
    assert record["koi"]["reason"] == "before the move"
    assert record["actor"]["api_key"]["id"] == "root"
    assert RowKind.PICTURE not in {row[0] for row in rows}
    assert koi.key("ann").encode() not in answer.content


def test_only_who_may_do_everything_downloads_it(koi: Koi) -> None:
    async def issue(context: OperatorContext) -> list[str]:
        made = [
            await context.admin_keys.issue("some", frozenset({scope}))
            for scope in (AdminScope.READ, AdminScope.PEOPLE, AdminScope.MONEY)
        ]
        return [one.secret for one in made]

    for secret in koi.operate(issue):
        with koi.client(secret) as client:
            refused = client.post(BACKUPS)
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "insufficient_permissions"
    with koi.client(koi.key("ann")) as user:
        assert user.post(BACKUPS).status_code == 403


def test_a_page_of_another_origin_gets_nothing_by_the_cookie(koi: Koi) -> None:
    with httpx.Client(base_url=koi.url, headers={"sec-fetch-site": "same-origin"}) as page:
        assert page.post("/v1/koi/session", json={"key": ADMIN_KEY}).status_code == 200
        foreign = page.post(BACKUPS, headers={"sec-fetch-site": "cross-site"})
        own = page.post(BACKUPS)

    assert foreign.json()["error"]["code"] == "cross_origin_refused"
    assert own.status_code == 200


def test_one_is_made_at_a_time_and_one_that_is_left_makes_room(koi: Koi, tmp_path: Path) -> None:
    note = AuditNote(Actor(ActorKind.ADMIN_KEY, "root"), "ledger.downloaded")

    async def download(context: OperatorContext) -> bytes:
        downloads = LedgerDownloads(context.scripts, context.backups, "test")
        left = await downloads.open(note)
        await anext(left)
        with pytest.raises(Conflict):
            await downloads.open(note)
        await left.aclose()  # type: ignore[attr-defined]
        return b"".join([part async for part in await downloads.open(note)])

    before = koi.operate(lambda context: context.backups.latest())
    file = tmp_path / "koi.gz"
    file.write_bytes(koi.operate(download))
    after = koi.operate(lambda context: context.backups.latest())

    assert len([row for row in BackupReader(file) if row[0] == RowKind.ENTRY]) == 1
    assert before != after
