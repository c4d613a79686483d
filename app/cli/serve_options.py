"""The options of `koi serve`, read without cyclopts where they are plain."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

PLAIN_OPTION = re.compile(r"--(?:(host)=([^\s-]\S*)|(port)=([0-9]{1,5})|(workers)=([1-9][0-9]?))")
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was typed; None is left to the settings."""

    host: str | None = None
    port: int | None = None
    workers: int | None = None

    @classmethod
    def parse_plain(cls, words: Sequence[str]) -> Self | None:
        """`--port 80` or `--port=80`, each option once. None for anything else: it is wrong, or
        only cyclopts knows what it means."""
        found: dict[str, str] = {}
        for option in _join_values(words):
            match = PLAIN_OPTION.fullmatch(option)
            if match is None:
                return None
            name, value = filter(None, match.groups())
            if name in found or (name == "port" and int(value) > MAX_PORT):
                return None
            found[name] = value
        port, workers = (
            int(found[name]) if name in found else None for name in ("port", "workers")
        )
        return cls(found.get("host"), port, workers)


def _join_values(words: Sequence[str]) -> Sequence[str]:
    """Each option as one word."""
    joined: list[str] = []
    for word in words:
        if joined and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
