"""One line of a journal, read with suspicion: a damaged or foreign one is no step, never an error.

Lines of earlier versions are read too: before changes carried numbers of their own, a write took at
most one, which was its mark's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.domain.job import JobState
from app.domain.journal import Change, Kind, Mark, Step

STATES = frozenset(JobState)
AMOUNTS = ("images", "surplus")
ENTRY = frozenset(
    {"kind", "job", "key", "user", "model", "size", "quality", "day", "month", "delivered",
     "presumed", *AMOUNTS}
)  # fmt: skip
RECORDS = frozenset({Kind.USERS, Kind.TEAMS, Kind.KEYS, Kind.JOURNALS})


def read_step(line: bytes) -> Step | None:
    """None when the line says nothing that can be used as it is."""
    try:
        row = orjson.loads(line)
        mark = _mark(row["mark"])
        changes = [_change(change, mark) for change in row["changes"]]
        return Step(mark, changes, _whole(row["at_ms"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _mark(row: Mapping[str, Any]) -> Mark:
    return Mark(_whole(row["seq"]), _text(row["who"]), _text(row["epoch"]))


def _change(row: Mapping[str, Any], mark: Mark) -> Change:
    kind, fields = Kind(row["kind"]), _texts(row["fields"])
    _judge(kind, row["id"], dict(zip(fields[::2], fields[1::2], strict=True)))
    seq = _whole(row["seq"]) if "seq" in row else _taken(kind, fields, mark)
    return Change(kind, _text(row["id"]), fields, seq)


def _judge(kind: Kind, id: str, fields: Mapping[str, str]) -> None:
    """Raises `ValueError` or `KeyError` when a rebuild could not use it."""
    if kind is Kind.JOB and "state" in fields and fields["state"] not in STATES:
        raise ValueError("no state of a job")
    if kind is Kind.ENTRY:
        ms, _, count = id.partition("-")
        if not (ms.isdecimal() and count.isdecimal() and fields.keys() >= ENTRY):
            raise ValueError("no entry of the ledger")
        for name in AMOUNTS:
            int(fields[name])
    if kind in RECORDS and not isinstance(orjson.loads(fields["record"]), dict):
        raise ValueError("no record")
    if kind is Kind.LIFE:
        int(fields["begins"])


def _taken(kind: Kind, fields: Sequence[str], mark: Mark) -> int:
    """The number an old version's change took: only a job's admission is worth one."""
    return mark.seq if kind is not Kind.JOB or list(fields[:2]) == ["state", "R"] else 0


def _texts(fields: Sequence[object]) -> list[str]:
    """A script's numbers are written as numbers."""
    if not isinstance(fields, list) or any(isinstance(field, list | dict) for field in fields):
        raise TypeError("no fields")
    return [str(field) for field in fields]


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError("no text")
    return found


def _whole(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError("no number")
    return found
