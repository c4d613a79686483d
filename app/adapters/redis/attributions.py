"""An attribution as JSON by name, in the record of a job and in the ledger's entries."""

from typing import Any

import orjson

from app.domain.attribution import Attribution
from app.domain.ledger import AdmissionRequest


def read_attribution(text: str) -> Attribution:
    row = orjson.loads(text)
    return Attribution(row.get("project"), row.get("tag"), row.get("end_user"))


def write_attribution(attribution: Attribution) -> str:
    return orjson.dumps(attribution.given).decode()


def attribution_request(admission: AdmissionRequest, most: int) -> dict[str, Any]:
    """For `admit.lua`: at most so many values of a user and month are counted by name."""
    if admission.attribution is None:
        return {}
    return {"attributed": {"said": admission.attribution.given, "most": most}}
