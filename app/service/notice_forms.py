"""How a notice is written for its receiver, and sent: Standard Webhooks, Slack or Feishu."""

import json
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from app.domain.notices import NoticeKind, describe_notice
from app.domain.webhooks import (
    Delivery,
    DeliveryState,
    ReceiverAnswer,
    ReceiverUnreachable,
    WebhookPoster,
)
from app.service.webhook_signature import build_signed_headers

NO_RECEIVER = "KOI_NOTICE_WEBHOOK is not set in this process"


class NoticeForm(StrEnum):
    STANDARD = "standard"
    SLACK = "slack"
    FEISHU = "feishu"


SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
FEISHU_MARKS = str.maketrans("<>", "\u2039\u203a")
"""A sentence may quote a user, who must not call everybody in the channel or show false links."""
FORMS_BY_HOST = {
    "hooks.slack.com": NoticeForm.SLACK,
    "open.feishu.cn": NoticeForm.FEISHU,
    "open.larksuite.com": NoticeForm.FEISHU,
}


def choose_form(url: str, form: str) -> NoticeForm:
    """The form asked for, or with `auto` that of the URL's host."""
    if form != "auto":
        return NoticeForm(form)
    return FORMS_BY_HOST.get(urlsplit(url).hostname or "", NoticeForm.STANDARD)


@dataclass(frozen=True, slots=True)
class NoticeReceiver:
    """Where notices go. `url` is None without a receiver; `secret` signs."""

    poster: WebhookPoster
    url: str | None
    form: str = "auto"
    secret: str | None = None

    @property
    def has_receiver(self) -> bool:
        return self.url is not None

    async def send(self, delivery: Delivery, now_ms: int) -> int:
        """Send one notice; the receiver's status. Raises `ReceiverUnreachable`."""
        if self.url is None:
            raise ReceiverUnreachable(NO_RECEIVER)
        form = choose_form(self.url, self.form)
        body = json.dumps(build_notice_body(delivery, form), ensure_ascii=False).encode()
        signers = () if self.secret is None else (self.secret,)
        headers = build_signed_headers(delivery.id, now_ms // 1000, body, signers)
        answer = await self.poster.post(self.url, headers, body)
        if form is NoticeForm.FEISHU:
            _check_feishu(answer)
        return answer.status


def build_test_notice() -> Delivery:
    now_ms = round(time.time() * 1000)
    return Delivery(
        id=f"msg_{secrets.token_hex(16)}",
        user="",
        url="",
        kind=NoticeKind.NOTICE_TEST,
        state=DeliveryState.WAITING,
        created_ms=now_ms,
        subject="house",
        data={"host": socket.gethostname()},
    )


def build_notice_body(delivery: Delivery, form: NoticeForm) -> Mapping[str, object]:
    kind = NoticeKind(delivery.kind)
    text = describe_notice(kind, delivery.subject, delivery.data)
    if form is NoticeForm.SLACK:
        return {"text": text.translate(SLACK_ESCAPES)}
    if form is NoticeForm.FEISHU:
        return {"msg_type": "text", "content": {"text": text.translate(FEISHU_MARKS)}}
    return {
        "type": kind,
        "timestamp": format_timestamp(delivery.created_ms),
        "data": {"text": text, "subject": delivery.subject, **delivery.data},
    }


def format_timestamp(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_feishu(answer: ReceiverAnswer) -> None:
    """Feishu says in the body of a 200 that it took nothing."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return
    if isinstance(said, dict) and said.get("code"):
        raise ReceiverUnreachable(f"Feishu took nothing: {str(said.get('msg'))[:100]}")
