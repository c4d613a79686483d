"""Entries of the ledger as JSON records, and what requests said for whom and for what they were."""

from typing import Any

from app.cli.output import format_time
from app.domain.attribution import NOTHING_SAID, Attribution
from app.domain.catalog_providers import MAIN
from app.domain.ledger import Entry
from app.domain.money import format_micros


def said_record(said: Attribution | None) -> dict[str, str]:
    """Shown where something was said."""
    return {} if said is None else said.given


def entry_record(entry: Entry, currency: str) -> dict[str, Any]:
    said = entry.attribution or NOTHING_SAID
    return {
        "id": entry.id,
        "kind": entry.kind,
        "at": format_time(entry.at_ms),
        "job": entry.job or None,
        "key_id": entry.key or None,
        "user": entry.user,
        "team": entry.team,
        "model": entry.model,
        "size": entry.size or None,
        "quality": entry.quality or None,
        "images": entry.images,
        "amount": None if entry.micros is None else format_micros(entry.micros),
        "currency": currency,
        "delivered": entry.delivered,
        "presumed": entry.presumed,
        "surplus": entry.surplus,
        "day": entry.day,
        "month": entry.month,
        "proof": entry.proof,
        "code": entry.code,
        "note": entry.note,
        "calls": list(entry.calls),
        "dispatched_at": format_time(entry.dispatched_ms),
        "asked": entry.asked,
        "provider": entry.provider or MAIN,
        "project": said.project,
        "tag": said.tag,
        "end_user": said.end_user,
    }
