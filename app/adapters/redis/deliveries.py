"""The queue of webhooks and notices in the store, and its log."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import LIST_UNDELIVERED, READ_DELIVERY
from app.adapters.redis.codec import unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.notices import Notice
from app.domain.webhooks import (
    HOUSE_USER,
    Delivery,
    DeliveryClaims,
    DeliveryReport,
    DeliveryRoom,
    DeliveryState,
    WebhookAdded,
    WebhookTarget,
)

NOTICES_URL = "@notices"
"""Stands for the URL of notices."""


def new_delivery_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


class RedisNotices:
    """`app.domain.notices.Notices` says what the method does. `sent` is false without a receiver,
    whose URL is in the settings only: it may be a secret."""

    def __init__(self, scripts: LedgerScripts, *, sent: bool, lifetime_ms: int) -> None:
        self._scripts, self._lifetime_ms = scripts, lifetime_ms
        self._url = NOTICES_URL if sent else ""

    async def publish(self, notice: Notice) -> bool:
        fields = await self._run(
            "publish_notice",
            id=new_delivery_id(),
            user=HOUSE_USER,
            url=self._url,
            kind=notice.kind,
            subject=notice.subject,
            occasion=notice.occasion,
            data=orjson.dumps(dict(notice.data)).decode(),
            period_ms=notice.period_ms,
            lifetime_ms=self._lifetime_ms,
        )
        return bool(fields["published"])

    async def _run(self, name: str, **request: Any) -> Any:
        return await self._scripts.run(name, orjson.dumps(request))


class RedisDeliveryQueue:
    """`app.domain.webhooks.DeliveryQueue` says what each method does."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def add_webhook(
        self, job_id: str, target: WebhookTarget, asked: str | None
    ) -> WebhookAdded:
        also = {} if asked is None else {"asked": asked}
        request = {"job": job_id, "hook": write_webhook(target), **also}
        status, _ = await self._scripts.write("add_webhook", request)
        return cast("WebhookAdded", status)

    async def claim(self, room: DeliveryRoom, lease_ms: int) -> DeliveryClaims:
        fields = await self._run(
            "claim_deliveries",
            total=room.total,
            per_receiver=room.per_receiver,
            per_user=room.per_user,
            in_flight=dict(room.in_flight),
            lease_ms=lease_ms,
        )
        found = [read_delivery(unflatten(flat)) for flat in fields["deliveries"]]
        return DeliveryClaims(found, fields["now_ms"])

    async def report(self, report: DeliveryReport) -> DeliveryState:
        given = {"state": report.state, "status": report.status, "error": report.error}
        fields = await self._run(
            "report_delivery",
            id=report.delivery.id,
            tries=report.delivery.tries,
            due_ms=report.due_ms,
            **{name: value for name, value in given.items() if value is not None},
        )
        return DeliveryState(fields["state"])

    async def list_newest(
        self, user: str, limit: int, *, failed: bool = False
    ) -> Sequence[Delivery]:
        also = {"failed": True} if failed else {}
        fields = await self._run("list_deliveries", user=user, limit=limit, **also)
        return [read_delivery(unflatten(flat)) for flat in fields["deliveries"]]

    async def list_house_notices(self, limit: int) -> Sequence[Delivery]:
        """The notices to the operator, newest first."""
        return await self.list_newest(HOUSE_USER, limit)

    async def find(self, id: str) -> Delivery | None:
        record = await self._scripts.command(READ_DELIVERY, keyspace.key("delivery", id))
        return read_delivery(record) if record else None

    async def users(self) -> Sequence[str]:
        known = await self._scripts.command(LIST_UNDELIVERED, keyspace.key("undelivered"))
        return sorted(name for name in known if name != HOUSE_USER)

    async def redeliver(self, id: str, lifetime_ms: int) -> bool:
        fields = await self._run("redeliver", id=id, lifetime_ms=lifetime_ms)
        return bool(fields["queued"])

    async def _run(self, name: str, **request: Any) -> Any:
        return await self._scripts.run(name, orjson.dumps(request))


def write_webhook(target: WebhookTarget) -> dict[str, Any]:
    """As a job's field `hooks` lists it."""
    row: dict[str, Any] = {
        "url": target.url,
        "user": target.user,
        "origin": target.origin,
        "lifetime": target.lifetime_ms,
    }
    return row | ({"events": list(target.events)} if target.events else {})


def read_delivery(record: Mapping[str, str]) -> Delivery:
    tries = int(record["tries"])
    return Delivery(
        id=record["id"],
        user=record["user"],
        url=record["url"],
        kind=record["type"],
        state=DeliveryState(record["state"]),
        created_ms=int(record["created"]),
        receiver=record["receiver"],
        job_id=record.get("job"),
        origin=record.get("origin", ""),
        subject=record.get("subject", ""),
        data=orjson.loads(record.get("data", "{}")),
        tries=tries,
        round_tries=tries - int(record.get("round", 0)),
        status=_whole(record.get("status")),
        error=record.get("error") or None,
        ended_ms=_whole(record.get("ended")),
        due_ms=_whole(record.get("due")),
    )


def _whole(text: str | None) -> int | None:
    return int(float(text)) if text else None
