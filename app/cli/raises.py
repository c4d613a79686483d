"""`koi users raise`, `koi teams raise`, `koi keys raise`: more of some limits for a while."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.errors import usage_error
from app.cli.options import AsJson, LimitChanges, LimitOptions
from app.cli.output import print_json, print_line
from app.cli.raise_records import raise_record, raise_text
from app.cli.session import run_operation
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Team, User
from app.service.raises import UNTIL_HELP

if TYPE_CHECKING:
    from app.service.keys import KeyAdmin
    from app.wiring.operator import OperatorContext

NO_LIMITS = LimitChanges()
Until = Annotated[str | None, Parameter(help=f"When it ends: {UNTIL_HELP}.")]
End = Annotated[bool, Parameter(name="--end", help="End it now.", show_default=False)]


def build_raise_command(noun: str, example: str) -> Callable[..., None]:
    """The command for a `user`, a `team` or a `key`."""

    def raise_(
        name: str,
        /,
        *,
        until: Until = None,
        end: End = False,
        limits: LimitChanges = NO_LIMITS,
        json: AsJson = False,
    ) -> None:
        if not end and (until is None or not limits.reason.strip()):
            raise usage_error("A raise needs --until and --reason; --end ends one.")
        by = _amounts(limits)

        async def work(context: "OperatorContext") -> None:
            keys = context.changing(limits.reason)
            before = await _find(keys, noun, name)
            if end:
                after = await keys.end_raise(before)
            else:
                zone = ZoneInfo(context.settings.timezone)
                after = await keys.raise_limits(before, by, until or "", zone)
            if json:
                raised = raise_record(after.raised, context.catalog.currency)
                print_json({"name": name, "raise": raised})
            elif after.raised is None:
                print_line(f"Ended the raise of {noun} {name}.")
            else:
                print_line(f"Raised {noun} {name}: {raise_text(after.raised)}.")

        run_operation(work)

    raise_.__doc__ = f"""Raise limits of a {noun} for a while; it ends by itself.

    What is named is added to the limit of that name. A second raise replaces the first.

    Example: koi {noun}s raise {example} --images-per-day +50 --until midnight --reason "a deadline"
             koi {noun}s raise {example} --end
    """
    return raise_


def _amounts(limits: LimitChanges) -> Limits:
    typed = {field.name: getattr(limits, field.name) for field in fields(LimitOptions)}
    given = {name: text.removeprefix("+") for name, text in typed.items() if text is not None}
    return replace(limits, **given).apply_to(Limits())


async def _find(keys: "KeyAdmin", noun: str, name: str) -> User | Team | ApiKey:
    find: Callable[..., object] = {"user": keys.user, "team": keys.team, "key": keys.key}[noun]
    return await find(name)  # type: ignore[misc,no-any-return]
