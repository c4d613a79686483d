"""Which parts of the preludes a script is given: those it uses.

The store runs the whole text of a script at every call. A function of the preludes that the script
never calls would be made and thrown away each time, and each copy of it makes the store's collector
slower. So the preludes are cut into their top-level parts, and a script gets those that it names,
those that these name, and so on, in their order; keys and error codes stand in it as constants, and
comments stay out of the store.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

_TOKENS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|--[^\n]*")
_BEGINS = re.compile(r"^(?=[A-Za-z])(?!end\b|else)", re.MULTILINE)
_DEFINES = re.compile(r"(?:local )?function (\w+)|local ([\w, ]+)")
_NAMES = re.compile(r"(?:(?<![\w.])|(?<=\.\.))[A-Za-z_]\w*")
_CONSTANTS = re.compile(r"(?<![\w.])[A-Z]\.\w+")
_FIELDS = re.compile(r"\b(\w+)=('[^']*'|\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """A statement of a prelude. One that defines nothing is in every script."""

    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def constants_of(table: str) -> dict[str, str]:
    """Of `local K={job='koi:…'}`: `K.job` is `'koi:…'`."""
    name, _, fields = table.partition("\n")[0].removeprefix("local ").partition("={")
    return {f"{name}.{field}": value for field, value in _FIELDS.findall(fields)}


def parts_of(text: str, constants: Mapping[str, str]) -> Iterator[Part]:
    """The statements that begin at the start of a line. `constants` has names such as `K.job`."""
    for statement in _BEGINS.split(_code_of(text, constants)):
        if statement.strip():
            found = _DEFINES.match(statement)
            names = (found[1] or found[2]) if found else ""
            yield Part(statement, frozenset(re.findall(r"\w+", names)), _names_in(statement))


def cut(texts: Sequence[str], constants: Mapping[str, str]) -> Sequence[Part]:
    """The parts of all preludes. Of what they use only the names that preludes define are kept:
    the others need nothing, and took 0.2 MB of a gateway at rest."""
    parts = [part for text in texts for part in parts_of(text, constants)]
    defined = frozenset[str]().union(*(part.defines for part in parts))
    return [replace(part, uses=part.uses & defined) for part in parts]


def link(body: str, parts: Sequence[Part], constants: Mapping[str, str]) -> str:
    """The body after the parts it needs."""
    text = _code_of(body, constants)
    uses = defaultdict[str, list[frozenset[str]]](list)
    for part in parts:
        for name in part.defines:
            uses[name].append(part.uses)
    needed, unread = set[str](), [_names_in(text), *(p.uses for p in parts if not p.defines)]
    while unread:
        fresh = (unread.pop() & uses.keys()) - needed
        needed |= fresh
        for name in fresh:
            unread += uses[name]
    kept = [part.text for part in parts if not part.defines or part.defines & needed]
    return "".join([*kept, text])


def _code_of(text: str, constants: Mapping[str, str]) -> str:
    """Without comments, and with constants in place of their names."""
    lines = (_without_comment(line) if "--" in line else line for line in text.split("\n"))
    code = "".join(f"{line}\n" for line in lines if line.strip())
    return _CONSTANTS.sub(lambda name: constants.get(name[0], name[0]), code)


def _without_comment(line: str) -> str:
    return _TOKENS.sub(lambda token: token[0] if token[0][0] in "'\"" else "", line).rstrip()


def _names_in(code: str) -> frozenset[str]:
    return frozenset(_NAMES.findall(_TOKENS.sub("''", code)))
