"""Faults that are a refusal by the provider, or an error page of a proxy before it."""

from app.sandbox.account import RETRY_FORMS
from app.sandbox.contract import Problem
from app.sandbox.faults.row import Bills, Fault, ReplyAct, Staged


def _problem(status: int, code: str, message: str, kind: str) -> ReplyAct:
    async def act(staged: Staged) -> bool:
        return await staged.refuse(Problem(status, code, staged.arg or message, kind))

    return act


def _page(status: int, title: str) -> ReplyAct:
    async def act(staged: Staged) -> bool:
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        await staged.exchange.reply(status, page.encode(), "text/html; charset=utf-8")
        return False

    return act


def _stranger(status: int, body: str, media: str, *headers: tuple[str, str]) -> ReplyAct:
    """An answer of a proxy; the provider never saw the request."""

    async def act(staged: Staged) -> bool:
        told = (("retry-after", staged.arg),) if staged.arg else headers
        await staged.exchange.reply(status, body.encode(), media, told)
        return False

    return act


def _pace(form: str) -> ReplyAct:
    async def act(staged: Staged) -> bool:
        headers = RETRY_FORMS[form](6.0, staged.now)
        if staged.arg:
            headers = (("retry-after", staged.arg),)
        message = "rate limit reached for this key"
        return await staged.refuse(
            Problem(429, "rate_limit_exceeded", message, "rate_limit_error", headers=headers)
        )

    return act


def _refusal(status: int, code: str, message: str, kind: str = "invalid_request_error") -> Fault:
    says = f"a JSON error {status} {code}"
    return Fault(str(status), Bills.NOTHING, says, reply=_problem(status, code, message, kind))


def _named(name: str, bills: Bills, says: str, act: ReplyAct) -> Fault:
    return Fault(name, bills, says, reply=act)


_FORMS: tuple[tuple[str, str, str], ...] = (
    ("429", "none", "no Retry-After (argument: its raw value)"),
    ("429-int", "int", "Retry-After in whole seconds"),
    ("429-float", "float", "Retry-After with a fraction"),
    ("429-date", "date", "Retry-After as an HTTP date"),
    ("429-ms", "ms", "retry-after-ms"),
    ("429-long", "long", "Retry-After 3600"),
    ("429-huge", "huge", "Retry-After 1000000000"),
    ("429-garbage", "garbage", "Retry-After that is no time"),
)
_PAGE = "<!doctype html><html><title>{0}</title><body><h1>{0}</h1></body></html>"
_HTML = "text/html; charset=utf-8"
_STRANGERS: tuple[tuple[str, str, ReplyAct], ...] = (
    (
        "429-html",
        "a proxy's 429 page (argument: its Retry-After)",
        _stranger(429, _PAGE.format("Too Many Requests"), _HTML, ("retry-after", "7")),
    ),
    (
        "429-empty",
        "a 429 and nothing else (argument: its Retry-After)",
        _stranger(429, "", "text/plain"),
    ),
    ("401-text", "a proxy's 401 in plain text", _stranger(401, "Unauthorized\n", "text/plain")),
    ("402-html", "a 402 page", _stranger(402, _PAGE.format("Payment Required"), _HTML)),
    (
        "403-html",
        "a firewall's challenge page with 403",
        _stranger(403, _PAGE.format("Just a moment..."), _HTML),
    ),
    ("404-html", "a web server's 404 page", _stranger(404, _PAGE.format("Not Found"), _HTML)),
    ("413-html", "a proxy's 413 page", _stranger(413, _PAGE.format("Too Large"), _HTML)),
    ("400-empty", "a 400 and nothing else", _stranger(400, "", "text/plain")),
    (
        "308",
        "a redirect to https",
        _stranger(308, "", "text/plain", ("location", "https://a.test/v1")),
    ),
)
_SERVER = "server_error"
_MODERATED = "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"
_MODERATION = _problem(400, "content_policy_violation", _MODERATED, "invalid_request_error")

ROWS: tuple[Fault, ...] = (
    _refusal(400, "invalid_value", "the request was refused"),
    _refusal(401, "invalid_api_key", "Incorrect API key provided", "authentication_error"),
    _refusal(402, "insufficient_balance", "the account balance is empty", "billing_error"),
    _refusal(403, "model_not_allowed", "this key may not use the model", "access_error"),
    _refusal(404, "model_not_found", "the model does not exist"),
    _refusal(413, "request_too_large", "the request is too large"),
    _refusal(422, "invalid_parameters", "a parameter is not acceptable"),
    *(_named(n, Bills.NOTHING, f"429 with {says}", _pace(form)) for n, form, says in _FORMS),
    *(_named(name, Bills.NOTHING, says, act) for name, says, act in _STRANGERS),
    _refusal(500, "internal_error", "something went wrong here", _SERVER),
    _refusal(503, "service_unavailable", "the service is overloaded", _SERVER),
    _named(
        "503-no-channel",
        Bills.NOTHING,
        "503: no available channel for the model, so nothing was accepted",
        _problem(503, "model_not_found", "no available channel for this model", "new_api_error"),
    ),
    _named(
        "silent-bill",
        Bills.ALL,
        "a JSON error 500 for a generation that is billed all the same",
        _problem(500, "internal_error", "something went wrong here", _SERVER),
    ),
    _named(
        "504",
        Bills.ALL,
        "a JSON error 504 while the work goes on behind it",
        _problem(504, "generation_timeout", "upstream took too long", _SERVER),
    ),
    _named("502-html", Bills.ALL, "a proxy's 502 page", _page(502, "502 Bad Gateway")),
    _named("503-html", Bills.ALL, "a proxy's 503 page", _page(503, "503 Unavailable")),
    _named("504-html", Bills.ALL, "a proxy's 504 page", _page(504, "504 Gateway Time-out")),
    _named("524-html", Bills.ALL, "a CDN's 524 page", _page(524, "524 A timeout occurred")),
    _named(
        "violation-fee",
        Bills.ALL,
        "a 400 whose code names the fee that is billed",
        _problem(400, "violation_fee.grok.csam", _MODERATED, "invalid_request_error"),
    ),
    _named("moderation-400", Bills.REFUSAL, "a 400 naming the usage guidelines", _MODERATION),
)
