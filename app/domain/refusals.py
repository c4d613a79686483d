"""Refusals that keep one caller from using up what is everybody's."""

from dataclasses import dataclass

from app.domain.errors import Refused


@dataclass(frozen=True, slots=True)
class Caps:
    """What a user may have for nothing in an hour; None is unlimited.

    `replays` are answers of the cache that an Idempotency-Key is bound to; `refusals` are requests
    that the provider got, refused, and did not charge for.
    """

    replays: int | None = None
    refusals: int | None = None


UNCAPPED = Caps()


class TooManyWaiting(Refused):
    """One caller's share of those who wait, or are being answered, is taken."""

    code = "too_many_waiting"
    retryable = True


class TooManyRefusals(Refused):
    """The provider refused too many of a user's requests within the hour, each for free."""

    code = "too_many_refusals"
