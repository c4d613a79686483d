"""The body of a webhook: the task as `GET /v1/tasks/{id}` shows it."""

from functools import partial

import orjson

from app.api.response_body import describe_task, sign_image_link
from app.domain.job import Job
from app.domain.ports import ImageLinks
from app.domain.webhooks import Delivery
from app.service.notice_forms import format_timestamp


def build_webhook_body(links: ImageLinks, delivery: Delivery, job: Job) -> bytes:
    """Its links to pictures are signed anew for each try."""
    ended_ms = delivery.created_ms if job.ended_ms is None else job.ended_ms
    task = describe_task(job, partial(sign_image_link, links, delivery.origin))
    body = {"type": delivery.kind, "timestamp": format_timestamp(ended_ms), "data": task}
    return orjson.dumps(body)
