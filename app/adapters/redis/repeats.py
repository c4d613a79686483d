"""How a request may be recognised as a repeat, as the scripts read it."""

from typing import Any

from app.domain.images import digest
from app.domain.ledger import Repeat
from app.domain.principal import Principal


def repeated(principal: Principal, repeat: Repeat) -> dict[str, Any]:
    ask: dict[str, Any] = {"attempt": digest(principal.key_id, repeat.body), "body": repeat.body}
    ask |= {name: True for name in ("marked", "fresh") if getattr(repeat, name)}
    if repeat.call is not None:
        ask["call"] = repeat.call
    if repeat.callers is not None:
        ask["callers"] = dict(repeat.callers)
    if repeat.idempotency_key is not None:
        ask["replay"] = repeat.idempotency_key
    return ask
