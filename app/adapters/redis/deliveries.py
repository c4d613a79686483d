"""The queue of webhooks and notices in the store, and its log."""

import secrets

import orjson

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.notices import Notice

HOUSE_USER = "@house"
"""Stands where a delivery has its user, for notices to the operator. No user can have this name."""


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
        request = {
            "id": new_delivery_id(),
            "user": HOUSE_USER,
            "url": self._url,
            "kind": notice.kind,
            "subject": notice.subject,
            "occasion": notice.occasion,
            "data": orjson.dumps(dict(notice.data)).decode(),
            "period_ms": notice.period_ms,
            "lifetime_ms": self._lifetime_ms,
        }
        fields = await self._scripts.run("publish_notice", orjson.dumps(request))
        return bool(fields["published"])
