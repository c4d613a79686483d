"""Every route of the operator's console, on one page."""

from app.api.openapi import DocumentedRoute
from app.api.operator import health, jobs, money, people, usage, welcome
from app.api.operator import operations as op

KOI = "/v1/koi"

# fmt: off
OPERATOR_ROUTES = (
    DocumentedRoute("GET", f"{KOI}/health", health.read, op.READ_HEALTH),
    DocumentedRoute("GET", f"{KOI}/settings", health.settings, op.READ_SETTINGS),
    DocumentedRoute("GET", f"{KOI}/people", people.index, op.LIST_PEOPLE),
    DocumentedRoute("GET", f"{KOI}/people/{{user_id}}", people.read, op.READ_PERSON),
    DocumentedRoute("GET", f"{KOI}/api_keys", people.index_keys, op.LIST_ALL_KEYS),
    DocumentedRoute("POST", f"{KOI}/keys/identify", people.identify, op.IDENTIFY),
    DocumentedRoute("POST", f"{KOI}/welcome", welcome.create, op.WELCOME),
    DocumentedRoute("POST", f"{KOI}/configuration", welcome.configure, op.CONFIGURE),
    DocumentedRoute("GET", f"{KOI}/usage", usage.read, op.READ_KOI_USAGE),
    DocumentedRoute("GET", f"{KOI}/jobs", jobs.index, op.LIST_JOBS),
    DocumentedRoute("GET", f"{KOI}/jobs/{{job_id}}", jobs.read, op.READ_JOB),
    DocumentedRoute("DELETE", f"{KOI}/jobs/{{job_id}}", jobs.cancel, op.CANCEL_JOB),
    DocumentedRoute("POST", f"{KOI}/jobs/{{job_id}}/refund", jobs.refund, op.REFUND_JOB),
    DocumentedRoute("GET", f"{KOI}/prices", money.prices, op.READ_PRICES),
    DocumentedRoute("POST", f"{KOI}/bill", money.bill, op.COMPARE_BILL),
    DocumentedRoute("GET", f"{KOI}/ledger/check", money.check, op.CHECK_LEDGER),
    DocumentedRoute("POST", f"{KOI}/ledger/adjustments", money.adjust, op.ADJUST_LEDGER),
)
# fmt: on
