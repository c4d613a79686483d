"""`--user --team --key`: whose usage or tasks a report is about."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import CommandFailed
from app.cli.options import words

if TYPE_CHECKING:
    from app.domain.keyring import KeyRing

SINCE = "From this day or time, today, yesterday, or how long ago (7d)."


@dataclass(frozen=True, slots=True)
class Names:
    """Whose; an empty set is everybody's."""

    users: frozenset[str]
    teams: frozenset[str]
    keys: frozenset[str]


@Parameter(name="*")
@dataclass(frozen=True)
class Whose:
    """Names as typed, several with commas; nothing typed is everybody."""

    user: Annotated[str | None, Parameter(help="Only these users'.")] = None
    team: Annotated[str | None, Parameter(help="Only these teams'.")] = None
    key: Annotated[str | None, Parameter(help="Only these keys' (key_…).")] = None

    @property
    def names(self) -> Names:
        return Names(
            words("--user", self.user), words("--team", self.team), words("--key", self.key)
        )

    async def check(self, keyring: "KeyRing") -> None:
        """Where nothing was found: raises `CommandFailed` for names that nobody knows, which are
        most likely misspelt. What was deleted is known and may still be asked for."""
        whose = self.names
        for noun, names, look in (
            ("user", whose.users, keyring.user),
            ("team", whose.teams, keyring.team),
            ("key", whose.keys, keyring.key),
        ):
            for name in sorted(names):
                if await look(name) is None:
                    raise CommandFailed(
                        f"There is no {noun} {name!r}, and nothing in the ledger is theirs; "
                        f"see `koi {noun}s list`."
                    )
