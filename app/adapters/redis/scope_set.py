"""A principal as the ledger sees it: scope keys, the limits on each, and what is left of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.limits import (
    LimitKind,
    Limits,
    LimitSnapshot,
    LimitStatus,
    LimitWindow,
    Scope,
)
from app.domain.principal import Principal

HOUSE_SCOPE_KEY = "house"


@dataclass(frozen=True, slots=True)
class ScopeSet:
    """The scopes of a principal in the order of their scope keys: key, user, team, house.

    Every job is counted in all of them, limited or not, so that usage is known and a limit that is
    set later finds the counters right.
    """

    scopes: tuple[Scope, ...]

    @classmethod
    def of(cls, principal: Principal) -> "ScopeSet":
        return cls(principal.all_scopes)

    @property
    def has_budget(self) -> bool:
        return any(scope.limits.has_budget for scope in self.scopes)

    def limit_fields(self, principal: Principal) -> dict[str, Any]:
        return {
            "scope_keys": scope_keys_of(principal.key_id, principal.user, principal.team),
            "limits": [_limits(scope.limits) for scope in self.scopes],
        }

    def snapshot(self, rows: Iterable[Mapping[str, Any]]) -> LimitSnapshot:
        """`rows` are the `limits` of a script's reply."""
        statuses = []
        for row in rows:
            scope = self.scopes[row["scope"] - 1]
            statuses.append(
                LimitStatus(
                    scope.kind,
                    scope.name,
                    LimitKind(row["kind"]),
                    LimitWindow(row["window"]),
                    row.get("limit"),
                    row["used"],
                    row["held"],
                    row["reset_s"],
                )
            )
        return LimitSnapshot(tuple(statuses))


def scope_keys_of(key: str, user: str, team: str | None) -> list[str]:
    """Where an amount is counted; the same as `scope_keys_of` in the scripts' prelude.

    A correction may leave out key or user.
    """
    keys = [f"{kind}:{name}" for kind, name in (("key", key), ("user", user)) if name]
    return [*keys, *([f"team:{team}"] if team is not None else []), HOUSE_SCOPE_KEY]


def _limits(limits: Limits) -> dict[str, int]:
    named = {
        "requests": limits.requests_per_minute,
        "concurrency": limits.concurrency,
        "images_day": limits.images_per_day,
        "images_month": limits.images_per_month,
        "micros_day": limits.micros_per_day,
        "micros_month": limits.micros_per_month,
    }
    return {name: limit for name, limit in named.items() if limit is not None}
