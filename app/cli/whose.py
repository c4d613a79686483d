"""`--user --team --key`: whose usage or tasks a report is about."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import CommandFailed, misused
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
        return Names(_names("user", self.user), _names("team", self.team), _names("key", self.key))

    async def check(self, keyring: "KeyRing") -> None:
        """Where nothing was found: raises `CommandFailed` for names that nobody knows, which are
        most likely misspelt. What was deleted is known and may still be asked for."""
        for noun, names, look in (
            ("user", words(self.user), keyring.user),
            ("team", words(self.team), keyring.team),
            ("key", words(self.key), keyring.key),
        ):
            for name in sorted(names):
                if await look(name) is None:
                    raise CommandFailed(
                        f"There is no {noun} {name!r}, and nothing in the ledger is theirs; "
                        f"see `koi {noun}s list`."
                    )


def _names(noun: str, text: str | None) -> frozenset[str]:
    names = words(text)
    if text is not None and not names:
        raise misused(f"--{noun} needs a name, or several with commas.")
    return names
