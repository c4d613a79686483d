"""What the schema says of the console's routes. Each summary names the scope that a key needs."""

from dataclasses import replace
from typing import Any

from app.api.operations import (
    COMMON_HEADERS,
    Answers,
    Operation,
    describe_answer,
    describe_idempotency_key,
    refer_headers,
)
from app.api.operator import jobs, money, people, usage, welcome
from app.api.operator.wire import (
    AdjustmentBody,
    ConfigurationBody,
    HealthBody,
    IdentifyBody,
    JobDetailBody,
    JobListBody,
    KeyListBody,
    KoiUsageBody,
    LedgerCheckBody,
    PersonObject,
    PricesBody,
    RefundBody,
    SettingsBody,
    WelcomeBody,
)
from app.api.organization.fields import LIFETIME, NAME, describe_body
from app.api.organization.limits import LIMITS_SCHEMA
from app.api.organization.operation_kinds import READ_CODES, WRITE_CODES, list_parameters
from app.api.organization.operations import TEXT
from app.api.organization.paging import PAGE_PARAMETERS
from app.api.organization.wire import ObjectListBody
from app.api.parameters import Schema
from app.service.teams import MAX_REASON_CHARS

TAG = "Operation of Koi"
IMAGES: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": jobs.MAX_IMAGES}
REASON: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_REASON_CHARS}


def _read(id: str, path: str, summary: str, model: Any, *more: Schema) -> Operation:
    answers: Answers = {200: describe_answer(model, "As asked.")}
    return Operation(
        id, TAG, summary, answers, READ_CODES, parameters=(*list_parameters(path), *more)
    )


def _write(
    id: str, path: str, summary: str, model: Any, body: Schema | None = None, *more: Schema
) -> Operation:
    answers: Answers = {200: describe_answer(model, "As it is now.")}
    parameters = (*list_parameters(path), *more)
    return Operation(id, TAG, summary, answers, WRITE_CODES, parameters=parameters, body=body)


def _file_body(*media_types: str) -> Schema:
    content = {kind: {"schema": {"type": "string"}} for kind in media_types}
    return {"required": True, "content": content}


READ_HEALTH = _read("readHealth", "", "Checks and figures of now (read)", HealthBody)
READ_SETTINGS = _read("readSettings", "", "Settings in force, gateways (read)", SettingsBody)
LIST_PEOPLE = _read(
    "listPeople", "", "List people or teams with how limits stand (read)",
    ObjectListBody[PersonObject], *PAGE_PARAMETERS, *people.PEOPLE_PARAMETERS,
)  # fmt: skip
READ_PERSON = _read("readPerson", "{user_id}", "Read a person (read)", PersonObject)
LIST_ALL_KEYS = _read(
    "listAllKeys", "", "List all keys of everybody (read)", KeyListBody,
    *PAGE_PARAMETERS, *people.KEY_PARAMETERS,
)  # fmt: skip
IDENTIFY = _write(
    "identifyKey", "", "Whose key is this? (read)", IdentifyBody,
    describe_body(
        ("text",), text={"type": "string", "minLength": 1, "maxLength": people.MAX_TEXT_CHARS}
    ),
)  # fmt: skip
WELCOME = _write(
    "welcome", "", "A person with team, limits and key in one step (people; limits: money)",
    WelcomeBody,
    describe_body(
        ("name",), name=NAME, title=TEXT, team=TEXT, limits=LIMITS_SCHEMA, key_name=TEXT,
        expires_in_seconds=LIFETIME,
    ),
)  # fmt: skip
CONFIGURE = _write(
    "configure", "", "Compare with a file of `koi apply` (read), or apply it (people, money)",
    ConfigurationBody, _file_body("application/toml", "text/plain"),
    *welcome.CONFIGURATION_PARAMETERS,
)  # fmt: skip
READ_KOI_USAGE = Operation(
    "readKoiUsage",
    TAG,
    "Usage by any dimension, as JSON, CSV or FOCUS 1.2 (read)",
    {
        200: {
            **describe_answer(KoiUsageBody, "As asked."),
            "headers": refer_headers(*COMMON_HEADERS, "content-disposition"),
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
    READ_CODES,
    parameters=usage.USAGE_PARAMETERS,
)
LIST_JOBS = _read("listJobs", "", "List jobs (read)", JobListBody, *jobs.JOB_PARAMETERS)
READ_JOB = _read(
    "readJob", "{job_id}", "Read a job's timeline (read)", JobDetailBody, *jobs.READ_PARAMETERS
)
CANCEL_JOB = Operation(
    "cancelJob",
    TAG,
    "Cancel a job that was not sent (people)",
    {200: describe_answer(JobDetailBody, "As it is now.")},
    WRITE_CODES | {"task_not_cancellable", "task_not_found"},
    parameters=list_parameters("{job_id}"),
)
REFUND_JOB = _write(
    "refundJob", "{job_id}", "Give back images of a job (money)", RefundBody,
    describe_body(("note",), images=IMAGES, note=REASON), *jobs.REFUND_PARAMETERS,
)  # fmt: skip
READ_PRICES = _read("readPrices", "", "Prices of the catalog (read)", PricesBody)
COMPARE_BILL = _write(
    "compareBill", "", "Compare the provider's bill (read), enter corrections (money)",
    dict[str, Any], _file_body("text/csv", "application/octet-stream"), *money.BILL_PARAMETERS,
)  # fmt: skip
CHECK_LEDGER = _read("checkLedger", "", "Counters against the ledger (read)", LedgerCheckBody)
ADJUST_LEDGER = replace(_write(
    "adjustLedger", "", "Correct a user's account (money)", AdjustmentBody,
    describe_body(
        ("user", "model", "note"), user=NAME, model=NAME, note=REASON,
        images={
            "type": ["integer", "null"], "minimum": -money.MAX_IMAGES, "maximum": money.MAX_IMAGES
        },
        amount={"type": ["string", "null"], "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$"},
    ),
    describe_idempotency_key("The same key within 24 hours is the same correction."),
), codes=WRITE_CODES | {"invalid_idempotency_key"})  # fmt: skip
