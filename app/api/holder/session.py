"""/v1/koi/session: a cookie in place of an API key, for the page."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import (
    API_KEY_FORMAT,
    extract_api_key,
    find_session,
    find_session_principal,
)
from app.api.cookie import build_cookie, build_expired_cookie, find_session_token, is_foreign
from app.api.errors import unknown_url_error
from app.api.holder.wire import SessionBody, SignedOutBody
from app.api.organization.access import find_admin_by_digest, find_admin_of_session
from app.api.organization.paging import seconds
from app.api.parameters import missing_error, parse_string, unknown_parameter_error
from app.api.request_body import get_body_bytes, read_json
from app.api.response_body import json_response
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import InvalidApiKey, StoreUnavailable
from app.domain.principal import CachePolicy, Principal
from app.domain.secret_digest import digest_secret
from app.domain.session import CrossOriginRefused, Session, SessionRole

MAX_KEY_CHARS = 256
NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whose key it is that a session stands for. `caller` is who the rate limiter counts."""

    role: SessionRole
    caller: Principal
    scopes: tuple[str, ...] = ()


async def create(request: Request) -> Response:
    """Sign in: exchange an API key, or an admin key, for a session cookie. The cookie counts in
    requests of this gateway's own page only, for twelve hours at most, and no longer than its key.
    A session that the browser had before is ended."""
    _require_console(request)
    if is_foreign(request):
        raise CrossOriginRefused
    digest = digest_secret(await _read_key(request))
    who = await _identify(request, digest)
    gateway = get_app_state(request).gateway
    await gateway.rate_limiter.check_rate_limit(who.caller, get_body_bytes(request))
    await _end_earlier(request)
    opened = await gateway.sessions.open(digest, who.role)
    return _answer(who, opened.session, {"set-cookie": build_cookie(request, opened.token)})


async def read(request: Request) -> Response:
    """Who is signed in, or whose key this is."""
    _require_console(request)
    session = await find_session(request)
    if session is not None and session.person is not None:
        who = await _identify_person(request, session)
    else:
        digest = digest_secret(extract_api_key(request)) if session is None else session.key_digest
        who = await _identify(request, digest)
    await get_app_state(request).gateway.rate_limiter.check_read_rate(who.caller)
    return _answer(who, session)


async def delete(request: Request) -> Response:
    """Sign out: the session ends, on every worker within three seconds."""
    _require_console(request)
    session = await find_session(request)
    if session is None:
        raise InvalidApiKey("missing")
    await get_app_state(request).gateway.sessions.end(session)
    content: SignedOutBody = {"object": "koi.session.deleted", "deleted": True}
    headers = {**NO_STORE, "set-cookie": build_expired_cookie(request)}
    return json_response(orjson.dumps(content), headers)


def _require_console(request: Request) -> None:
    """Without the page there are no sessions."""
    if not get_edge_settings(request).console:
        raise unknown_url_error()


async def _read_key(request: Request) -> str:
    body = await read_json(request)
    for name in body:
        if name != "key":
            raise unknown_parameter_error(name)
    secret = parse_string(body, "key", MAX_KEY_CHARS)
    if secret is None:
        raise missing_error("key")
    if API_KEY_FORMAT.fullmatch(secret.strip()) is None:
        raise InvalidApiKey("malformed")
    return secret.strip()


async def _identify(request: Request, digest: str) -> SignedIn:
    """Raises `InvalidApiKey`, `ProjectArchived`, `LedgerUnavailable`."""
    record = get_access_record(request)
    admin = await find_admin_by_digest(request, digest)
    if admin is not None:
        record.key_id = admin.id
        caller = Principal(admin.id, "", admin.team, (), CachePolicy.OFF)
        return SignedIn(SessionRole.OPERATOR, caller, tuple(sorted(admin.scopes)))
    principal = await get_app_state(request).gateway.authenticate.by_digest(digest)
    record.user, record.key_id = principal.user, principal.key_id
    return SignedIn(SessionRole.HOLDER, principal)


async def _identify_person(request: Request, session: Session) -> SignedIn:
    """Raises as `_identify`."""
    record = get_access_record(request)
    admin = await find_admin_of_session(request, session)
    if admin is not None:
        record.user = admin.actor.id
        team = None if admin.bounds is None else admin.bounds.team
        caller = Principal(admin.actor.text, admin.actor.id, team, (), CachePolicy.OFF)
        return SignedIn(SessionRole.OPERATOR, caller, tuple(sorted(admin.scopes)))
    principal = await find_session_principal(request, session)
    record.user, record.key_id = principal.user, principal.key_id
    return SignedIn(SessionRole.HOLDER, principal)


async def _end_earlier(request: Request) -> None:
    """As far as possible: whoever signs in anew is not kept out by what the old cookie says."""
    with suppress(InvalidApiKey, CrossOriginRefused, StoreUnavailable):
        if find_session_token(request) is not None:
            session = await find_session(request)
            if session is not None:
                await get_app_state(request).gateway.sessions.end(session)


def _answer(
    who: SignedIn, session: Session | None, headers: Mapping[str, str] | None = None
) -> Response:
    content: SessionBody = {
        "object": "koi.session",
        "role": who.role,
        "user": who.caller.user or None,
        "team": who.caller.team,
        "key_id": who.caller.key_id,
        "scopes": list(who.scopes),
        "expires_at": None if session is None else seconds(session.expires_ms),
    }
    return json_response(orjson.dumps(content), {**NO_STORE, **(headers or {})})
