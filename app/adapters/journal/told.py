"""What a process wrote into its journal lately, so that it does not write it again."""

from collections import OrderedDict
from collections.abc import Sequence

from app.domain.journal import Change, Kind, Step

REMEMBERED = 2048
"""So many of the jobs and entries told last."""


class Told:
    """Drops what the journal holds already: a repeated write of the store tells once more what the
    first one changed, because the first reply may have been lost. Only this process's own lines
    count, and only jobs and entries: those follow one another in an order of their own, so that
    saying them once is enough."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._told: OrderedDict[tuple[str, Kind, str], dict[str, int]] = OrderedDict()

    def news(self, step: Step) -> list[Change]:
        """The changes that were not told yet; from now on they are."""
        return [change for change in step.changes if self._new(step.mark.epoch, change)]

    def _new(self, epoch: str, change: Change) -> bool:
        if change.kind not in (Kind.JOB, Kind.ENTRY):
            return True
        says = _digests(change.fields)
        if change.seq:
            says[f"number {change.seq}"] = 0
        name = (epoch, change.kind, change.id)
        known = self._told.setdefault(name, {})
        self._told.move_to_end(name)
        if says.items() <= known.items():
            return False
        known.update(says)
        if len(self._told) > self._most:
            self._told.popitem(last=False)
        return True


def _digests(fields: Sequence[str]) -> dict[str, int]:
    """Each field with a digest of its value: values may be long."""
    return {name: hash(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}
