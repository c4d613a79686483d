"""A job's end, as `settle.lua` is told."""

from typing import Any

import orjson

from app.adapters.redis.pending import pending_row
from app.domain.job import Outcome


def end_fields(job_id: str, outcome: Outcome) -> dict[str, Any]:
    ask: dict[str, Any] = {
        "job": job_id,
        "state": outcome.state.value,
        "status": outcome.status.value,
        "billed": outcome.billed,
        "presumed": outcome.presumed,
        "surplus": outcome.surplus,
        "pictures": orjson.dumps(outcome.pictures).decode(),
        "names": [picture.name for picture in outcome.pictures],
    }
    if outcome.proof is not None:
        ask["proof"] = outcome.proof.value
    if outcome.pending:
        ask["pending"] = [pending_row(image) for image in outcome.pending]
    if outcome.calls:
        ask["calls"] = " ".join(outcome.calls)
    if outcome.failure is not None:
        ask["code"] = outcome.failure.code
        ask["failure"] = orjson.dumps(outcome.failure).decode()
    return ask
