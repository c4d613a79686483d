"""The ledger, the usage report and Prometheus agree."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from app.domain.queries import UsageQuery
from tests.flow.command import Cli
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

ADMIN = "an-admin-key-of-good-length"


def sample(metrics: str, name: str, **labels: str) -> float:
    total = 0.0
    for line in metrics.splitlines():
        if re.match(rf"{name}(\{{| )", line) and all(
            f'{k}="{v}"' in line for k, v in labels.items()
        ):
            total += float(line.rsplit(" ", 1)[1])
    return total


def test_one_day_of_use_is_told_alike_by_ledger_report_and_metrics(start: Start) -> None:
    koi = start(admin_key=ADMIN)
    for name, n in (("ann", 2), ("bob", 1)):
        with koi.client(koi.key(name)) as client:
            client.post(GENERATE, json={**KOI, "n": n, "quality": "hd"})
            koi.sandbox.script("400")
            client.post(GENERATE, json={**KOI, "prompt": "refused"})
    koi.settled()

    async def report(operator: Any) -> Any:
        now = round(time.time() * 1000) + 60_000
        return await operator.usage.report(UsageQuery(0, now, by=("user", "model", "day")))

    (bucket,) = koi.operate(report)
    with koi.client() as client:
        headers = {"authorization": f"Bearer {ADMIN}"}
        metrics = client.get("/metrics", headers=headers).text

    rows = {row.user: (row.images, row.requests, row.micros) for row in bucket.rows}
    assert rows == {"ann": (2, 1, 560_000), "bob": (1, 1, 280_000)}
    assert sample(metrics, "koi_images_delivered_total", model="grok-imagine") == 3
    assert sample(metrics, "koi_images_billed_total", model="grok-imagine") == 3
    assert sample(metrics, "koi_cost_total") == pytest.approx(0.84)
    assert sample(metrics, "koi_refusals_total", code="upstream_rejected") == 2


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_images_beyond_those_asked_for_are_in_the_usage_as_on_the_bill(
    start: Start, mode: str, tmp_path: Path
) -> None:
    koi = start(admin_key=ADMIN, upstream_mode=mode, cache_policy="off")
    koi.sandbox.script("more", "ok", "more")
    for name in ("ann", "bob"):
        with koi.client(koi.key(name)) as client:
            for n in range(2):
                client.post(GENERATE, json={**KOI, "prompt": f"{name} {n}", "quality": "hd"})
    koi.settled()
    billed = koi.sandbox.billed_images

    def asked(path: str, *groups: str) -> list[dict[str, Any]]:
        with koi.client(ADMIN) as admin:
            params: dict[str, Any] = {"start_time": int(time.time()) - 3600, "group_by": groups}
            data = admin.get(f"/v1/organization/{path}", params=params).json()["data"]
        return [result for bucket in data for result in bucket["results"]]

    async def report(operator: Any, *by: str, **filters: Any) -> dict[Any, Any]:
        now = round(time.time() * 1000) + 60_000
        (bucket,) = await operator.usage.report(UsageQuery(0, now, by=by, **filters))
        return {
            row.user: (row.images, row.delivered, row.surplus, row.micros) for row in bucket.rows
        }

    assert billed == 6
    assert koi.operate(lambda operator: report(operator, "user")) == {
        "ann": (2, 2, 0, 560_000), "bob": (2, 2, 0, 560_000), None: (2, 0, 2, 560_000),
    }  # fmt: skip
    assert koi.operate(report) == {None: (6, 4, 2, 1_680_000)}
    only = koi.operate(lambda operator: report(operator, "user", users=frozenset({"ann"})))
    assert only == {"ann": (2, 2, 0, 560_000)}
    assert sum(row["images"] for row in asked("usage/images", "user_id")) == billed
    assert [row["images"] for row in asked("usage/images")] == [billed]
    assert [row["amount"]["value"] for row in asked("costs")] == [1.68]
    cli = Cli(
        tmp_path,
        {
            "KOI_REDIS_URL": koi.settings.redis_url or "",
            "KOI_CATALOG": str(koi.settings.catalog),
        },
    )
    told = cli.json("usage")
    assert told["total"]["images"] == billed
    assert [(row["user"], row["images"], row["surplus"]) for row in told["rows"]] == [
        (None, 2, 2), ("ann", 2, 0), ("bob", 2, 0),
    ]  # fmt: skip
    assert re.search(r"^- +0 +2 +0 +0 +2 +0\.56$", cli.text("usage"), re.MULTILINE)


def test_metrics_want_their_token(start: Start) -> None:
    koi = start(host="0.0.0.0", admin_key=ADMIN, metrics_token="a-metrics-token-of-length")
    with koi.client() as client:
        none = client.get("/metrics")
        token = client.get(
            "/metrics", headers={"authorization": "Bearer a-metrics-token-of-length"}
        )

    assert none.status_code in (401, 403)
    assert token.status_code == 200


def test_a_correction_is_a_new_entry_and_the_ledger_still_agrees(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json={**KOI, "n": 2})
    koi.settled()
    (entry,) = koi.entries()

    async def refund(operator: Any) -> None:
        from dataclasses import replace

        from app.domain.ledger import EntryKind

        await operator.ledger.adjust(
            replace(
                entry, id="", kind=EntryKind.ADJUST, images=-1, micros=-140_000, delivered=0,
                presumed=0, surplus=0, note="the provider took one back",
            )
        )  # fmt: skip

    koi.operate(refund)

    assert [e.images for e in koi.entries()] == [2, -1]
    assert koi.audit().difference == 0
    koi.sandbox.reset()
    with koi.client() as client:
        usage = client.get("/v1/usage").json()
    assert usage
    koi.operate(_undo(entry))


def _undo(entry: Any) -> Any:
    async def work(operator: Any) -> None:
        from dataclasses import replace

        from app.domain.ledger import EntryKind

        await operator.ledger.adjust(
            replace(entry, id="", kind=EntryKind.ADJUST, images=-1, micros=-140_000, delivered=0,
                    presumed=0, surplus=0)
        )  # fmt: skip

    return work
