"""Money: prices, the provider's bill, the check of the counters, and corrections."""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.operator.standing import money_text
from app.api.operator.wire import AdjustmentBody, LedgerCheckBody, PricesBody
from app.api.organization.access import Administrator, admin_route, confirm_administrator
from app.api.organization.fields import read_fields
from app.api.organization.paging import object_response
from app.api.parameters import (
    INTEGER,
    Schema,
    describe_list,
    describe_query,
    missing_error,
    parse_integer,
    parse_prompt,
    parse_string,
)
from app.api.request_headers import parse_idempotency_key
from app.api.request_upload import read_upload
from app.domain.administration import AdminScope
from app.domain.catalog_providers import provider_of
from app.domain.errors import InvalidRequest
from app.domain.money import parse_micros
from app.service.adjustments import Adjustment
from app.service.operations import BillRequest, BillUnreadable
from app.service.teams import MAX_REASON_CHARS, MAX_TITLE_CHARS

MAX_BILL_BYTES = 16 << 20
MAX_WITHIN_S = 7 * 86_400
MAX_IMAGES = 1_000_000
SCAN_TOKENS = 20
APPLY = ("none", "all", "jobs")
BILL_PARAMETERS: list[Schema] = [
    describe_query("name", {"type": "string", "maxLength": MAX_TITLE_CHARS}, "Of the file."),
    describe_query("since", INTEGER, "What the bill covers, Unix seconds; missing: first line."),
    describe_query("until", INTEGER, "Exclusive; missing: last line."),
    describe_query("within_s", INTEGER, "How far a line may be from its call; missing: 900."),
    describe_query("capability", {"type": "string"}, "Only lines of this capability."),
    describe_query("provider", {"type": "string"}, "Whose bill it is; main without it."),
    describe_query("apply", {"type": "string", "enum": [*APPLY]}, "Which corrections to enter."),
    describe_list("jobs", "With apply=jobs: of these jobs."),
]


@admin_route(AdminScope.READ, for_team_admins=True)
async def prices(_request: Request, admin: Administrator) -> Response:
    """What one image costs, by model, size and quality; null where the catalog has no price."""
    catalog = admin.gateway.catalog
    content: PricesBody = {
        "object": "koi.prices",
        "currency": catalog.currency,
        "unpriced": list(catalog.unpriced),
        "data": [
            {
                "model": model.name,
                "size": size,
                "quality": quality,
                "price": money_text(model.price(size, quality)),
            }
            for model in catalog.enabled
            for size in model.sizes
            for quality in model.qualities
        ],
    }
    return object_response(content)


@admin_route(AdminScope.READ)
async def bill(request: Request, admin: Administrator) -> Response:
    """The provider's bill as CSV in the body against the ledger; with `apply` (money) corrections
    that are certain are entered. The answer is that of `koi ledger import-bill --json`."""
    query = request.query_params
    apply = parameters.parse_query_choice(query, "apply", APPLY) or "none"
    if apply != "none":
        admin.require(AdminScope.MONEY)
    since_s, until_s = (
        parameters.parse_query_time(query, name) if name in query else None
        for name in ("since", "until")
    )
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise parameters.invalid_value_error("until", "until must be later than since.")
    within_s = parameters.parse_query_integer(query, "within_s", 900)
    if within_s > MAX_WITHIN_S:
        raise parameters.invalid_value_error("within_s", f"within_s is at most {MAX_WITHIN_S}.")
    jobs = frozenset(parameters.parse_query_list(query, "jobs")) if apply == "jobs" else frozenset()
    await admin.charge_read(SCAN_TOKENS)
    wanted = BillRequest(
        name=query.get("name", "bill.csv")[:MAX_TITLE_CHARS],
        content=await read_upload(request, MAX_BILL_BYTES),
        since_ms=None if since_s is None else since_s * 1000,
        until_ms=None if until_s is None else until_s * 1000,
        within_ms=within_s * 1000,
        capability=query.get("capability") or None,
        provider=provider_of(query.get("provider")),
        apply_jobs=None if apply == "all" else jobs,
    )
    await confirm_administrator(request)
    operations = admin.gateway.operations
    enter = operations.adjustments.acting_as(admin.actor).enter
    try:
        report = await operations.bills.compare(wanted, enter)
    except BillUnreadable as error:
        raise InvalidRequest("invalid_value", str(error)) from None
    return object_response({"object": "koi.bill", "name": wanted.name, **report})


@admin_route(AdminScope.READ)
async def check(_request: Request, admin: Administrator) -> Response:
    """Counters against the ledger, as `koi ledger check`; at most a minute old."""
    await admin.charge_read(SCAN_TOKENS)
    audit = await admin.gateway.operations.audit()
    content: LedgerCheckBody = {
        "object": "koi.ledger_check",
        "entries": audit.entries,
        "open_jobs": audit.open_jobs,
        "counters": audit.counters,
        "difference": audit.difference,
        "differences": [asdict(one) for one in audit.differences],
    }
    return object_response(content)


@admin_route(AdminScope.MONEY)
async def adjust(request: Request, admin: Administrator) -> Response:
    """A correction that no job stands for, in a user's day and month of today. Negative takes
    back; a missing `amount` is the images at the catalog's price. Repeated under one
    Idempotency-Key it is entered once."""
    request_key = parse_idempotency_key(request.headers)
    body = await read_fields(request, frozenset({"user", "model", "images", "amount", "note"}))
    user, model = (parse_string(body, name, MAX_TITLE_CHARS) for name in ("user", "model"))
    if user is None or model is None:
        raise missing_error("user" if user is None else "model")
    images = parse_integer(body, "images", -MAX_IMAGES, MAX_IMAGES) or 0
    micros = _parse_amount(parse_string(body, "amount", 32))
    if not images and micros is None:
        raise missing_error("images")
    wanted = Adjustment(images, micros, parse_prompt(body, "note", MAX_REASON_CHARS))
    adjustments = admin.gateway.operations.adjustments.acting_as(admin.actor)
    entry = await adjustments.adjust_user(user, model, wanted, request_key)
    content: AdjustmentBody = {
        "object": "koi.adjustment",
        "entry": entry.id,
        "user": entry.user,
        "images": entry.images,
        "cost": money_text(entry.micros),
    }
    return object_response(content)


def _parse_amount(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return -parse_micros(text[1:]) if text.startswith("-") else parse_micros(text)
    except ValueError:
        raise InvalidRequest(
            "invalid_value", 'amount must be decimal text such as "-0.14".', param="amount"
        ) from None
