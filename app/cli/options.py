"""Options that several commands share, and how their text is read."""

import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.errors import CommandFailed, usage_error
from app.domain.images import ResponseFormat
from app.domain.limits import Limits
from app.domain.money import parse_micros
from app.domain.principal import CachePolicy

if TYPE_CHECKING:
    from app.domain.principal import KeyRing


UNLIMITED = ("unlimited", "none")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
DAYS_AGO = {"today": 0, "yesterday": 1}

AsJson = Annotated[
    bool, Parameter(name="--json", help="Print JSON instead of text.", show_default=False)
]


def choose_format(given: str | None, default: str, json: bool) -> str:
    """What `--format` says, or `--json`, which is short for the format of that kind; not both."""
    if not json:
        return given or default
    wanted = "jsonl" if default == "jsonl" else "json"
    if given not in (None, wanted):
        raise usage_error(f"Give --format {given} or --json, not both.")
    return wanted


ResponseFormatOption = Annotated[
    str | None,
    Parameter(
        name="--response-format",
        help="How pictures come when a request does not say: url, b64_json, both, or default.",
    ),
]


def _option(help_text: str) -> Parameter:
    return Parameter(help=f'{help_text}, or "unlimited".', allow_leading_hyphen=True)


@Parameter(name="*")
@dataclass(frozen=True)
class LimitOptions:
    """Limits as typed; what is not given stays as it is, `unlimited` or `none` clears."""

    images_per_day: Annotated[str | None, _option("Images per calendar day")] = None
    images_per_month: Annotated[str | None, _option("Images per calendar month")] = None
    budget_per_day: Annotated[str | None, _option("Money per calendar day, such as 12.50")] = None
    budget_per_month: Annotated[str | None, _option("Money per calendar month")] = None
    requests_per_minute: Annotated[str | None, _option("Requests per minute")] = None
    concurrency: Annotated[str | None, _option("Generations at the same time")] = None
    images_per_minute: Annotated[str | None, _option("Images per minute")] = None
    requests_per_day: Annotated[str | None, _option("Requests per calendar day")] = None

    @property
    def given(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(LimitOptions))

    def apply_to(self, limits: Limits) -> Limits:
        """`limits`, with those that were typed replaced."""
        return replace(
            limits,
            **{
                field.name.replace("budget", "micros"): _parse_limit(field.name, text)
                for field in fields(LimitOptions)
                if (text := getattr(self, field.name)) is not None
            },
        )


Reason = Annotated[str, Parameter(name="--reason", help="Why, for `koi audit`.")]


@Parameter(name="*")
@dataclass(frozen=True)
class LimitChanges(LimitOptions):
    """The same, and why they are changed."""

    reason: Reason = ""


def _parse_limit(name: str, text: str) -> int | None:
    option = f"--{name.replace('_', '-')}"
    if text.lower() in UNLIMITED:
        return None
    if name.startswith("budget"):
        try:
            return parse_micros(text)
        except ValueError as error:
            raise usage_error(f"{option}: {error}; write for example {option} 12.50.") from None
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise usage_error(f"{option} must be a whole number, 0 or more, or unlimited.")
    return int(text)


def cache_policy(text: str | None, before: CachePolicy | None = None) -> CachePolicy | None:
    """`off`, `private`, `shared`, or `default` to follow the deployment."""
    if text is None:
        return before
    if text == "default":
        return None
    try:
        return CachePolicy(text)
    except ValueError:
        raise usage_error("--cache must be off, private, shared or default.") from None


def response_format(
    text: str | None, before: ResponseFormat | None = None
) -> ResponseFormat | None:
    """`url`, `b64_json`, `both`, or `default` to leave it to the user, then the model's name."""
    if text is None:
        return before
    if text == "default":
        return None
    try:
        return ResponseFormat(text)
    except ValueError:
        raise usage_error("--response-format must be url, b64_json, both or default.") from None


def parse_signed_micros(option: str, text: str) -> int:
    """Decimal text that may be negative, as micro-units."""
    try:
        return -parse_micros(text[1:]) if text.startswith("-") else parse_micros(text)
    except ValueError as error:
        raise usage_error(f"{option}: {error}; write for example {option} -0.14.") from None


def parse_duration(option: str, text: str) -> timedelta:
    """`90d`, `12h`, `30m`, `45s` or `2w`."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise usage_error(f"{option} must be a duration such as 90d, 12h or 30m.")
    try:
        return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])
    except OverflowError:
        raise usage_error(f"{option} is longer than a thousand years.") from None


def parse_time_ms(option: str, text: str, zone: tzinfo) -> int:
    """RFC 3339, a day (its midnight in `zone`), `today`, `yesterday`, or how long ago (`7d`), as
    Unix milliseconds."""
    word, now = text.strip().lower(), datetime.now(zone)
    if word in DAYS_AGO:
        day = now.date() - timedelta(days=DAYS_AGO[word])
        moment = datetime.combine(day, time(), zone)
    elif DURATION.fullmatch(word):
        moment = _time_ago(option, word, now)
    else:
        moment = _parse_time(option, text, zone)
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _time_ago(option: str, text: str, now: datetime) -> datetime:
    try:
        return now - parse_duration(option, text)
    except OverflowError:
        raise usage_error(f"{option} is longer ago than there are years.") from None


def _parse_time(option: str, text: str, zone: tzinfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise usage_error(
            f"{option} must be a day such as 2026-11-23, a time such as 2026-11-23T08:00:00Z, "
            f"today, yesterday, or how long ago, such as 7d or 12h; not {text!r}."
        ) from None
    return moment


def parse_names(option: str, text: str | None) -> frozenset[str]:
    """A comma-separated list as a set, empty when it is not given. An empty list is most likely an
    unset variable of a script, and must not mean everything."""
    found = frozenset(word.strip() for word in (text or "").split(",") if word.strip())
    if text is not None and not found:
        raise usage_error(f"{option} needs a name, or several with commas.")
    return found


def require_text(option: str, text: str | None) -> str | None:
    """The text; refused when it is empty, which would mean something else than what was meant."""
    if text is not None and not text.strip():
        raise usage_error(f"{option} is empty; give it a value or leave it out.")
    return text


SINCE_HELP = "From this day or time, today, yesterday, or how long ago (7d)."


@dataclass(frozen=True, slots=True)
class ScopeFilter:
    """Whose tasks or usage; an empty set means everybody's."""

    users: frozenset[str]
    teams: frozenset[str]
    keys: frozenset[str]


@Parameter(name="*")
@dataclass(frozen=True)
class ScopeOptions:
    """`--user --team --key` as typed, several names with commas; nothing typed means everybody."""

    user: Annotated[str | None, Parameter(help="Only these users'.")] = None
    team: Annotated[str | None, Parameter(help="Only these teams'.")] = None
    key: Annotated[str | None, Parameter(help="Only these keys' (key_…).")] = None

    @property
    def selected(self) -> ScopeFilter:
        return ScopeFilter(
            parse_names("--user", self.user),
            parse_names("--team", self.team),
            parse_names("--key", self.key),
        )

    async def require_known(self, keyring: "KeyRing") -> None:
        """Where nothing was found: raises `CommandFailed` for names that nobody knows, which are
        most likely misspelt. What was deleted is known and may still be asked for."""
        scopes = self.selected
        for noun, names, find in (
            ("user", scopes.users, keyring.user),
            ("team", scopes.teams, keyring.team),
            ("key", scopes.keys, keyring.key),
        ):
            for name in sorted(names):
                if await find(name) is None:
                    raise CommandFailed(
                        f"There is no {noun} {name!r}, and nothing in the ledger is theirs; "
                        f"see `koi {noun}s list`."
                    )
