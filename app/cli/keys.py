"""`koi keys`: API keys, shown once and stored as a digest."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.cli.binding_limits import print_binding_limits
from app.cli.disabled_holders import find_disabled_holders
from app.cli.errors import EXIT_FAILED, require_change
from app.cli.identify_key import identify
from app.cli.key_options import (
    KeyChanges,
    KeyOptions,
    parse_expiry_ms,
    parse_lifetime,
    parse_models,
)
from app.cli.options import (
    AsJson,
    LimitChanges,
    Reason,
    parse_duration,
    response_format,
)
from app.cli.output import format_time, print_json, print_line, print_notice, print_table
from app.cli.raises import build_raise_command
from app.cli.records import changes_text, key_record, key_status, limit_fields, limits_text
from app.cli.session import run_operation
from app.cli.webhook_options import NO_WEBHOOK_OPTIONS, WebhookOptions
from app.domain.limits import Limits
from app.domain.principal import ApiKey

if TYPE_CHECKING:
    from app.service.keys import IssuedKey
    from app.wiring.operator import OperatorContext

keys = App(name="keys", help="Issue, list, revoke and rotate API keys.")
keys.command(identify)
NO_LIMITS = LimitChanges()
NO_SUCH_ENDING = "No key of a user ends like that; at least four characters are needed."
NO_KEYS = "No keys yet. Create one: koi keys create --user alice --new"
HEADINGS = (
    "key", "ends in", "user", "name", "status", "last used", "expires", "models", "limits",
)  # fmt: skip
keys.command(build_raise_command("key", "key_0123456789abcdef"), name="raise")


NO_KEY_OPTIONS = KeyOptions()
NO_KEY_CHANGES = KeyChanges()


@keys.command
def create(
    *,
    user: Annotated[str, Parameter(help="Whose key.")],
    new: Annotated[
        bool, Parameter(help="Create the user, with the default limits, when there is none.")
    ] = False,
    key: KeyOptions = NO_KEY_OPTIONS,
    hook: WebhookOptions = NO_WEBHOOK_OPTIONS,
    limits: LimitChanges = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Issue a key. It is printed once; limits given here narrow the user's, never widen them.

    Example: koi keys create --user alice --new
             koi keys create --user alice --name notebook --expires 90d --images-per-day 20
    """
    expires_in = None if key.expires is None else parse_lifetime(key.expires)
    pictures = response_format(key.pictures)
    models = parse_models(key.models)

    async def work(context: "OperatorContext") -> None:
        if not new:
            await context.keys.ensure_user(user, new=False)
        url = hook.choose(context) if hook.given else None
        issued = await context.changing(limits.reason).issue(
            user,
            name=key.name,
            expires_in=expires_in,
            models=models,
            limits=limits.apply_to(Limits()),
            response_format=pictures,
        )
        if url is not None:
            await context.changing(limits.reason).set_key_webhook(issued.key.id, url)
        if key.forwards_users:
            changing = context.changing(limits.reason)
            marked = await changing.set_forwards_users(issued.key.id, True)
            issued = replace(issued, key=marked)
        await _print_issued(issued, context, json)

    run_operation(work)


@keys.command(name="list")
def list_(
    *,
    user: Annotated[str | None, Parameter(help="Only this user's keys.")] = None,
    json: AsJson = False,
) -> None:
    """List keys; secrets are not stored and cannot be shown again.

    Example: koi keys list --user alice
    """

    async def work(context: "OperatorContext") -> None:
        if user is not None:
            await context.keys.user(user)
        found = sorted(await context.keys.keys(user), key=lambda key: (key.user, key.created_ms))
        await _print_keys(found, context, json, NO_KEYS)

    run_operation(work, changes=False)


@keys.command
def whose(
    ending: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, json: AsJson = False
) -> int:
    """Find a key by its last characters (four at least), or by all of it; exits 1 without one.

    "-" reads it from standard input, so that a whole key stays out of the shell's history. Keys
    issued before this command existed are found by all of their characters only.

    Example: koi keys whose …3f9a
             pbpaste | koi keys whose -
    """
    text = sys.stdin.readline() if ending == "-" else ending

    async def work(context: "OperatorContext") -> int:
        found = await context.keys.find_by_secret(text)
        await _print_keys(found, context, json, NO_SUCH_ENDING)
        return 0 if found else EXIT_FAILED

    return run_operation(work, changes=False)


@keys.command(name="set")
def set_(
    key_id: str,
    /,
    *,
    change: KeyChanges = NO_KEY_CHANGES,
    hook: WebhookOptions = NO_WEBHOOK_OPTIONS,
    limits: LimitChanges = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Change a key; what is not named stays, `unlimited` clears a limit.

    Example: koi keys set key_0123456789abcdef --images-per-day 50 --models grok-imagine
    """
    allowed = parse_models(change.models)
    given = change != NO_KEY_CHANGES or hook.given or limits.given
    require_change("keys set", given, "--images-per-day 50, --models NAME or --expires 90d")

    async def work(context: "OperatorContext") -> None:
        key = await context.keys.key(key_id)
        now_ms = await context.keyring.now_ms()
        url = hook.choose(context) if hook.given else None
        changed = await context.changing(limits.reason).set_key(
            key,
            name=key.name if change.name is None else change.name,
            models=key.models if change.models is None else allowed,
            expires_ms=parse_expiry_ms(change.expires, key.expires_ms, now_ms),
            response_format=response_format(change.pictures, key.response_format),
            limits=limits.apply_to(key.limits),
        )
        if hook.given:
            changed = await context.changing(limits.reason).set_key_webhook(key_id, url)
        if change.forwards_users is not None:
            changing = context.changing(limits.reason)
            changed = await changing.set_forwards_users(key_id, change.forwards_users)
        if json:
            print_json(key_record(changed, now_ms, currency=context.catalog.currency))
        else:
            text = changes_text(_settings(key), _settings(changed))
            print_line(f"Changed {changed.id} of user {changed.user}: {text}.")
        await print_binding_limits(context, changed)

    run_operation(work)


@keys.command
def revoke(key_id: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """End a key for good; gateways notice within five seconds.

    Example: koi keys revoke key_0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        key = await context.changing(reason).revoke(key_id)
        if json:
            now_ms = await context.keyring.now_ms()
            print_json(key_record(key, now_ms, currency=context.catalog.currency))
        else:
            print_line(f"Revoked {key.id} of user {key.user}.")

    run_operation(work)


@keys.command
def rotate(
    key_id: str,
    /,
    *,
    overlap: Annotated[str, Parameter(help="How long the old key works on.")] = "24h",
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Issue a key with the same rights; its own limits begin anew, and the old one ends later.

    Example: koi keys rotate key_0123456789abcdef --overlap 1h
    """
    span = parse_duration("--overlap", overlap)

    async def work(context: "OperatorContext") -> None:
        issued = await context.changing(reason).rotate(key_id, span)
        await _print_issued(issued, context, json)
        if not json:
            old = await context.keys.key(key_id)
            print_notice(f"The old key {key_id} ends at {format_time(old.expires_ms)}.")

    run_operation(work)


async def _print_keys(
    found: Sequence[ApiKey], context: "OperatorContext", json: bool, otherwise: str
) -> None:
    now_ms, used = await context.keyring.now_ms(), await context.keyring.last_used()
    off = await find_disabled_holders(context.keyring)
    facts = [(key, now_ms, used.get(key.id), off.get(key.user)) for key in found]
    if json:
        print_json([key_record(*fact, currency=context.catalog.currency) for fact in facts])
    elif found:
        print_table(HEADINGS, [_row(*fact) for fact in facts])
    else:
        print_line(otherwise)


def _row(key: ApiKey, now_ms: int, used_ms: int | None, disabled: str | None) -> tuple[object, ...]:
    return (
        key.id,
        key.ending,
        key.user,
        f"{key.name} (forwards users)".strip() if key.forwards_users else key.name,
        key_status(key, now_ms, disabled),
        format_time(used_ms) or "never",
        format_time(key.expires_ms),
        _models_text(key),
        limits_text(key.limits),
    )


def _models_text(key: ApiKey) -> str:
    return "all" if key.models is None else ", ".join(sorted(key.models))


def _settings(key: ApiKey) -> dict[str, object]:
    """What `set` may change."""
    return {
        "name": key.name,
        "models": _models_text(key),
        "expires": format_time(key.expires_ms) or "never",
        "response format": key.response_format or "default",
        "webhook": key.webhook or "the user's",
        "forwards users": "yes" if key.forwards_users else "no",
        **limit_fields(key.limits),
    }


async def _print_issued(issued: "IssuedKey", context: "OperatorContext", json: bool) -> None:
    if json:
        now_ms = await context.keyring.now_ms()
        record = key_record(issued.key, now_ms, currency=context.catalog.currency)
        print_json({"key": issued.secret} | record)
    else:
        print_line(issued.secret)
        print_notice(
            f"{issued.key.id} of user {issued.key.user}. Keep the key: it is not shown again."
        )
    await print_binding_limits(context, issued.key)
