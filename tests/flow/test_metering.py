"""The ledger, the usage report and Prometheus tell one story."""

import re
import time
from typing import Any

import pytest

from app.domain.usage import UsageQuestion
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

    async def report(office: Any) -> Any:
        now = round(time.time() * 1000) + 60_000
        return await office.usage.report(UsageQuestion(0, now, by=("user", "model", "day")))

    (bucket,) = koi.office(report)
    with koi.client() as client:
        headers = {"authorization": f"Bearer {ADMIN}"}
        metrics = client.get("/metrics", headers=headers).text

    rows = {row.user: (row.images, row.requests, row.micros) for row in bucket.rows}
    assert rows == {"ann": (2, 1, 560_000), "bob": (1, 1, 280_000)}
    assert sample(metrics, "koi_images_delivered_total", model="grok-imagine") == 3
    assert sample(metrics, "koi_images_billed_total", model="grok-imagine") == 3
    assert sample(metrics, "koi_cost_total") == pytest.approx(0.84)
    assert sample(metrics, "koi_refusals_total", code="upstream_rejected") == 2


def test_metrics_want_their_token(start: Start) -> None:
    koi = start(host="0.0.0.0", admin_key=ADMIN, metrics_token="a-metrics-token-of-length")
    with koi.client() as client:
        none = client.get("/metrics")
        token = client.get(
            "/metrics", headers={"authorization": "Bearer a-metrics-token-of-length"}
        )

    assert none.status_code in (401, 403)
    assert token.status_code == 200


def test_a_correction_is_a_new_entry_and_the_books_still_agree(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json={**KOI, "n": 2})
    koi.settled()
    (entry,) = koi.entries()

    async def refund(office: Any) -> None:
        from dataclasses import replace

        from app.domain.ledger import EntryKind

        await office.ledger.adjust(
            replace(
                entry, id="", kind=EntryKind.ADJUST, images=-1, micros=-140_000, delivered=0,
                presumed=0, surplus=0, note="the provider took one back",
            )
        )  # fmt: skip

    koi.office(refund)

    assert [e.images for e in koi.entries()] == [2, -1]
    assert koi.audit().difference == 0
    koi.sandbox.reset()
    with koi.client() as client:
        usage = client.get("/v1/usage").json()
    assert usage
    koi.office(_undo(entry))


def _undo(entry: Any) -> Any:
    async def work(office: Any) -> None:
        from dataclasses import replace

        from app.domain.ledger import EntryKind

        await office.ledger.adjust(
            replace(entry, id="", kind=EntryKind.ADJUST, images=-1, micros=-140_000, delivered=0,
                    presumed=0, surplus=0)
        )  # fmt: skip

    return work
