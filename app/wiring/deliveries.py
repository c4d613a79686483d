"""Webhooks and notices, opened from the settings."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.adapters.redis.deliveries import RedisDeliveryQueue, RedisNotices
from app.adapters.redis.ledger_condition import ClosedReason
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.notice_facts import RedisNoticeFacts
from app.adapters.webhooks.poster import HttpWebhookPoster
from app.api.webhook_body import build_webhook_body
from app.domain.administration import Actor, ActorKind
from app.domain.upstream import UpstreamTraffic
from app.service.delivery_sender import DeliverySender
from app.service.notice_forms import NoticeReceiver
from app.service.notice_watch import LocalFacts, NoticeWatch
from app.service.webhook_secrets import WebhookSecrets
from app.service.webhooks import Webhooks
from app.settings import Settings
from app.wiring.stores import open_notices

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from app.service.background import BackgroundTasks
    from app.wiring.adapters import Adapters

GATEWAY = Actor(ActorKind.GATEWAY, "deliveries")


class LatestTraffic:
    """Remembers how the traffic to the provider stands, and tells somebody else."""

    def __init__(self, observe: Callable[[UpstreamTraffic], None]) -> None:
        self._observe, self.latest = observe, UpstreamTraffic()

    def __call__(self, traffic: UpstreamTraffic) -> None:
        self.latest = traffic
        self._observe(traffic)


@dataclass(frozen=True, slots=True)
class DeliveryAdapters:
    """What webhooks and notices need, open."""

    facts: RedisNoticeFacts
    notices: RedisNotices
    queue: RedisDeliveryQueue
    poster: HttpWebhookPoster
    notice_receiver: NoticeReceiver


def open_delivery(
    stack: "AsyncExitStack", scripts: LedgerScripts, settings: Settings
) -> DeliveryAdapters:
    poster = open_poster(settings)
    stack.push_async_callback(poster.close)
    return DeliveryAdapters(
        facts=RedisNoticeFacts(scripts),
        notices=open_notices(scripts, settings),
        queue=RedisDeliveryQueue(scripts),
        poster=poster,
        notice_receiver=open_notice_receiver(stack, settings),
    )


def open_poster(settings: Settings) -> HttpWebhookPoster:
    hosts = [host.strip() for host in settings.webhook_hosts.split(",")]
    return HttpWebhookPoster(filter(None, hosts), timeout_s=settings.webhook_timeout_s)


def open_notice_receiver(stack: "AsyncExitStack", settings: Settings) -> NoticeReceiver:
    """The operator's own URL may lead anywhere."""
    url = settings.notice_url
    hosts = [urlsplit(url).netloc] if url else []
    poster = HttpWebhookPoster(hosts, timeout_s=settings.webhook_timeout_s)
    stack.push_async_callback(poster.close)
    return NoticeReceiver(poster, url, settings.notice_form, settings.notice_secret)


def build_webhooks(adapters: "Adapters", settings: Settings) -> Webhooks:
    return Webhooks(
        adapters.delivery.queue,
        adapters.delivery.poster,
        WebhookSecrets(adapters.keyring, GATEWAY),
        round(settings.webhook_lifetime_s * 1000),
    )


def build_delivery_sender(
    adapters: "Adapters", settings: Settings, background: "BackgroundTasks"
) -> DeliverySender:
    return DeliverySender(
        queue=adapters.delivery.queue,
        ledger=adapters.ledger,
        secrets=WebhookSecrets(adapters.keyring, GATEWAY),
        poster=adapters.delivery.poster,
        notices=adapters.delivery.notice_receiver,
        compose=partial(build_webhook_body, adapters.links),
        recorder=adapters.metrics,
        background=background,
        timeout_ms=round(settings.webhook_timeout_s * 1000),
        first_pause_ms=round(settings.webhook_retry_s * 1000),
    )


def build_notice_watch(adapters: "Adapters", settings: Settings) -> NoticeWatch:
    local = LocalFacts(
        data_lost=lambda: adapters.ledger.condition.closed is ClosedReason.LOST or adapters.gone(),
        traffic=lambda: {one.label: one.traffic.latest for one in adapters.upstreams},
        low_disk=partial(adapters.disk_space.find_low, settings.notice_disk_mb),
        host=socket.gethostname(),
    )
    return NoticeWatch(
        notices=adapters.delivery.notices,
        facts=adapters.delivery.facts,
        local=local,
        keyring=adapters.keyring,
        audit_log=adapters.audit_log,
        alerts=adapters.spend_alerts,
        house=settings.house_limits,
        interval_s=settings.notice_interval_s,
    )
