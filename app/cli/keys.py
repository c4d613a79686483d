"""`koi keys`: API keys, shown once and stored as a digest."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

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


@Parameter(name="*")
@dataclass(frozen=True)
class KeyOptions:
    """What a new key is for and may do, as typed."""

    name: Annotated[str, Parameter(help="What the key is for.")] = ""
    expires: Annotated[str | None, Parameter(help="When it ends, such as 90d or 12h.")] = None
    models: Annotated[str | None, Parameter(help="Only these models, comma-separated.")] = None
    pictures: Format = None


PLAIN = KeyOptions()


@keys.command
def create(
    *,
    user: Annotated[str, Parameter(help="Whose key; an unknown user is created.")],
    key: KeyOptions = PLAIN,
    limits: LimitOptions = NO_LIMITS,
    json: AsJson = False,
) -> None:
    """Issue a key. It is printed once; limits given here narrow the user's, never widen them.

    Example: koi keys create --user alice --name notebook --expires 90d --images-per-day 20
    """
    expires_in = None if key.expires is None else duration("--expires", key.expires)
    pictures = response_format(key.pictures)

    async def work(office: "Office") -> None:
        issued = await office.keys.issue(
            user,
            name=key.name,
            expires_in=expires_in,
            models=words(key.models) or None,
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
        now_ms = await office.keyring.now_ms()
        if json:
            say_json([key_record(key, office.catalog.currency, now_ms) for key in found])
        elif found:
            say_table(
                ("key", "user", "name", "status", "expires", "models", "limits"),
                [_row(key, now_ms) for key in found],
            )
        else:
            say("No keys yet. Create one: koi keys create --user alice")

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
            note(f"The old key {key_id} ends in {overlap}.")

    in_office(work)


def _row(key: ApiKey, now_ms: int) -> tuple[object, ...]:
    models = "all" if key.models is None else ", ".join(sorted(key.models))
    expires = time_text(key.expires_ms)
    status = key_status(key, now_ms)
    return (key.id, key.user, key.name, status, expires, models, limits_text(key.limits))


async def _say_issued(issued: "IssuedKey", office: "Office", json: bool) -> None:
    if json:
        now_ms = await office.keyring.now_ms()
        record = key_record(issued.key, office.catalog.currency, now_ms)
        say_json({"key": issued.secret} | record)
    else:
        say(issued.secret)
        note(f"{issued.key.id} of user {issued.key.user}. Keep the key: it is not shown again.")
