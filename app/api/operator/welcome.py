"""POST /v1/koi/welcome and /v1/koi/configuration: people, one at a time or many from a file."""

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.operator.wire import ConfigurationBody, PlannedChangeObject, WelcomeBody
from app.api.organization.access import Administrator, admin_route, confirm_administrator
from app.api.organization.fields import parse_lifetime, read_fields, require_title
from app.api.organization.limits import parse_limits_field
from app.api.organization.paging import object_response
from app.api.organization.service_accounts import describe_new_key
from app.api.parameters import Schema, describe_query, parse_string
from app.api.request_upload import read_upload
from app.api.response_body import get_public_origin
from app.domain.administration import AdminScope, Conflict
from app.domain.errors import InvalidRequest
from app.service.configuration import ConfigurationPlan, PlannedChange, show_value
from app.service.configuration_file import parse_configuration
from app.service.teams import MAX_TITLE_CHARS
from app.service.welcome import FIRST_KEY_NAME, Newcomer, welcome

MAX_FILE_BYTES = 256 << 10
FILE_TOKENS = 20
APPLY = describe_query("apply", {"type": "boolean"}, "Missing: only show the difference.")
CONFIGURATION_PARAMETERS: list[Schema] = [
    APPLY,
    describe_query("prune", {"type": "boolean"}, "Also delete what the file does not name."),
    describe_query("plan", {"type": "string"}, "Apply only if the difference is still this one."),
]
NOTE = """\
Hello {name},

you can make pictures now.

  base_url  {base_url}
  api_key   {key}

With the OpenAI SDK:

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="{key}")
  client.images.generate(model="{model}", prompt="a koi in a nebula")

Your page, with what is left of your limits and your pictures: {page}
Sign in there with the key. Keep it to yourself: it is shown this once.
"""


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create(request: Request, admin: Administrator) -> Response:
    """A person with team, limits and key, and a note to send them. Done again it changes nothing.
    `limits` other than the default ones need `money`."""
    known = {"name", "title", "team", "limits", "key_name", "expires_in_seconds"}
    body = await read_fields(request, frozenset(known))
    limits = parse_limits_field(body, admin.keys.defaults)
    if limits is not None:
        admin.require(AdminScope.MONEY)
    name = require_title(body)
    newcomer = Newcomer(
        name=name,
        title=parse_string(body, "title", MAX_TITLE_CHARS) or "",
        team=admin.home(parse_string(body, "team", MAX_TITLE_CHARS)),
        limits=limits or await admin.limits_of_reused_name(name),
        key_name=parse_string(body, "key_name", MAX_TITLE_CHARS) or FIRST_KEY_NAME,
        expires_in=parse_lifetime(body),
    )
    done = await welcome(admin.keys, admin.gateway.operations.people, newcomer)
    origin = get_public_origin(request)
    secret = "(the one you have)" if done.issued is None else done.issued.secret
    content: WelcomeBody = {
        "object": "koi.welcome",
        "created": done.created,
        "user": done.user.name,
        "team": done.user.team,
        "base_url": f"{origin}/v1",
        "page": f"{origin}/",
        "api_key": None if done.issued is None else describe_new_key(done.issued),
        "key_id": done.key.id,
        "note": NOTE.format(
            name=done.user.title or done.user.name,
            base_url=f"{origin}/v1",
            key=secret,
            model=admin.gateway.catalog.default_model,
            page=f"{origin}/",
        ),
    }
    return object_response(content)


@admin_route(AdminScope.READ)
async def configure(request: Request, admin: Administrator) -> Response:
    """The file of `koi apply` as the body: the difference, or with `apply` (people and money) its
    end. Keys without a digest are issued and shown once."""
    query = request.query_params
    apply, prune = (parameters.parse_query_boolean(query, name) for name in ("apply", "prune"))
    if apply:
        admin.require(AdminScope.PEOPLE)
        admin.require(AdminScope.MONEY)
    await admin.charge_read(FILE_TOKENS)
    raw = await read_upload(request, MAX_FILE_BYTES)
    await confirm_administrator(request)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("invalid_encoding", "The file must be UTF-8.") from None
    wanted = await asyncio.to_thread(parse_configuration, text, "The file", admin.keys.defaults)
    plan = ConfigurationPlan(admin.keys)
    changes = await plan.compare(wanted, prune=prune)
    described = [_describe_change(change) for change in changes]
    name = hashlib.sha256(repr(described).encode()).hexdigest()[:32]
    if apply and query.get("plan", name) != name:
        raise Conflict("The difference is another one by now; nothing was changed. Look again.")
    issued = await plan.carry_out(changes) if apply else []
    content: ConfigurationBody = {
        "object": "koi.configuration",
        "applied": apply,
        "plan": name,
        "changes": described,
        "archived_teams": await plan.find_archived(wanted),
        "keys": [describe_new_key(one) for one in issued],
    }
    return object_response(content)


def _describe_change(change: PlannedChange) -> PlannedChangeObject:
    changes = {
        name.replace("micros", "budget"): [show_value(name, value) for value in pair]
        for name, pair in change.changes.items()
    }
    return {"action": change.action.value, "target": change.target, "changes": changes}
