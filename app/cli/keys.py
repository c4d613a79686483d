"""`koi keys`: API keys, shown once and stored as a digest."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.cli.failure import FAILED, misused
from app.cli.options import AsJson, Format, LimitOptions, duration, response_format, words
from app.cli.out import note, say, say_json, say_table, time_text
from app.cli.records import key_record, key_status, limits_text
from app.cli.session import in_office
from app.domain.limits import Limits
from app.domain.principal import ApiKey

if TYPE_CHECKING:
    from app.service.keys import IssuedKey
    from app.wiring import Office

keys = App(name="keys", help="Issue, list, revoke and rotate API keys.")
NO_LIMITS = LimitOptions()
NO_KEYS = "No keys yet. Create one: koi keys create --user alice --new"
Models = Annotated[str | None, Parameter(help='Only these models, comma-separated, or "all".')]
HEADINGS = (
    "key", "ends in", "user", "name", "status", "last used", "expires", "models", "limits",
)  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True)
class KeyOptions:
    """What a new key is for and may do, as typed."""

    name: Annotated[str, Parameter(help="What the key is for.")] = ""
    expires: Annotated[str | None, Parameter(help="When it ends, such as 90d or 12h.")] = None
    models: Models = None
    pictures: Format = None


@Parameter(name="*")
@dataclass(frozen=True)
class KeyChanges:
    """What of a key is to be changed, as typed; None stays."""

    name: Annotated[str | None, Parameter(help="What the key is for.")] = None
    models: Models = None
    expires: Annotated[
        str | None, Parameter(help='When it ends from now on, such as 90d, or "never".')
    ] = None
    pictures: Format = None


PLAIN = KeyOptions()
UNCHANGED = KeyChanges()


@keys.command
def create(
    *,
    user: Annotated[str, Parameter(help="Whose key.")],
    new: Annotated[
        bool, Parameter(help="Create the user, with the default limits, when there is none.")
    ] = False,
    key: KeyOptions = PLAIN,
    limits: LimitOptions = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Issue a key. It is printed once; limits given here narrow the user's, never widen them.

    Example: koi keys create --user alice --new
             koi keys create --user alice --name notebook --expires 90d --images-per-day 20
    """
    expires_in = None if key.expires is None else _life(key.expires)
    pictures = response_format(key.pictures)
    models = _models(key.models)

    async def work(office: "Office") -> None:
        if not new:
            await office.keys.known_user(user, new=False)
        issued = await office.keys.issue(
            user,
            name=key.name,
            expires_in=expires_in,
            models=models,
            limits=limits.over(Limits()),
            response_format=pictures,
        )
        await _say_issued(issued, office, json)

    in_office(work)


@keys.command(name="list")
def list_(
    *,
    user: Annotated[str | None, Parameter(help="Only this user's keys.")] = None,
    json: AsJson = False,
) -> None:
    """List keys; secrets are not stored and cannot be shown again.

    Example: koi keys list --user alice
    """

    async def work(office: "Office") -> None:
        if user is not None:
            await office.keys.user(user)
        found = sorted(await office.keys.keys(user), key=lambda key: (key.user, key.created_ms))
        await _say_keys(found, office, json, NO_KEYS)

    in_office(work)


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

    async def work(office: "Office") -> int:
        found = await office.keys.whose(text)
        await _say_keys(found, office, json, "No key ends like that; four characters are needed.")
        return 0 if found else FAILED

    return in_office(work)


@keys.command(name="set")
def set_(
    key_id: str,
    /,
    *,
    change: KeyChanges = UNCHANGED,
    limits: LimitOptions = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Change a key; what is not named stays, `unlimited` clears a limit.

    Example: koi keys set key_0123456789abcdef --images-per-day 50 --models grok-imagine
    """
    allowed = _models(change.models)

    async def work(office: "Office") -> None:
        key = await office.keys.key(key_id)
        now_ms = await office.keyring.now_ms()
        changed = await office.keys.set_key(
            key_id,
            name=key.name if change.name is None else change.name,
            models=key.models if change.models is None else allowed,
            expires_ms=_expires_ms(change.expires, key.expires_ms, now_ms),
            response_format=response_format(change.pictures, key.response_format),
            limits=limits.over(key.limits),
        )
        if json:
            say_json(key_record(changed, office.catalog.currency, now_ms))
        else:
            say(f"Changed {changed.id} of user {changed.user}: {limits_text(changed.limits)}.")

    in_office(work)


@keys.command
def revoke(key_id: str, /, *, json: AsJson = False) -> None:
    """End a key for good; gateways notice within five seconds.

    Example: koi keys revoke key_0123456789abcdef
    """

    async def work(office: "Office") -> None:
        key = await office.keys.revoke(key_id)
        if json:
            now_ms = await office.keyring.now_ms()
            say_json(key_record(key, office.catalog.currency, now_ms))
        else:
            say(f"Revoked {key.id} of user {key.user}.")

    in_office(work)


@keys.command
def rotate(
    key_id: str,
    /,
    *,
    overlap: Annotated[str, Parameter(help="How long the old key works on.")] = "24h",
    json: AsJson = False,
) -> None:
    """Issue a key with the same rights; the old one ends after the overlap.

    Example: koi keys rotate key_0123456789abcdef --overlap 1h
    """
    span = duration("--overlap", overlap)

    async def work(office: "Office") -> None:
        issued = await office.keys.rotate(key_id, span)
        await _say_issued(issued, office, json)
        if not json:
            old = await office.keys.key(key_id)
            note(f"The old key {key_id} ends at {time_text(old.expires_ms)}.")

    in_office(work)


async def _say_keys(found: Sequence[ApiKey], office: "Office", json: bool, otherwise: str) -> None:
    now_ms, used = await office.keyring.now_ms(), await office.keyring.last_used()
    if json:
        currency = office.catalog.currency
        say_json([key_record(key, currency, now_ms, used.get(key.id)) for key in found])
    elif found:
        say_table(
            HEADINGS,
            [_row(key, now_ms, used.get(key.id)) for key in found],
        )
    else:
        say(otherwise)


def _row(key: ApiKey, now_ms: int, used_ms: int | None) -> tuple[object, ...]:
    return (
        key.id,
        key.ending,
        key.user,
        key.name,
        key_status(key, now_ms),
        time_text(used_ms) or "never",
        time_text(key.expires_ms),
        "all" if key.models is None else ", ".join(sorted(key.models)),
        limits_text(key.limits),
    )


def _models(text: str | None) -> frozenset[str] | None:
    """None is every model."""
    if text is None or text.strip().lower() == "all":
        return None
    return words("--models", text)


def _expires_ms(text: str | None, before: int | None, now_ms: int) -> int | None:
    if text is None:
        return before
    if text.lower() == "never":
        return None
    return now_ms + round(_life(text).total_seconds() * 1000)


def _life(text: str) -> timedelta:
    span = duration("--expires", text)
    if not span:
        raise misused("--expires must be longer than nothing; koi keys revoke ends a key now.")
    return span


async def _say_issued(issued: "IssuedKey", office: "Office", json: bool) -> None:
    if json:
        now_ms = await office.keyring.now_ms()
        record = key_record(issued.key, office.catalog.currency, now_ms)
        say_json({"key": issued.secret} | record)
    else:
        say(issued.secret)
        note(f"{issued.key.id} of user {issued.key.user}. Keep the key: it is not shown again.")
