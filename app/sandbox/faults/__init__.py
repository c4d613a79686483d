"""The registry of all faults of the provider, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from app.sandbox.faults import bodies, links, refusals, results, tasks, wire
from app.sandbox.faults.row import Fault

_ROWS: tuple[Fault, ...] = (
    *refusals.ROWS,
    *wire.ROWS,
    *bodies.ROWS,
    *results.ROWS,
    *tasks.ROWS,
    *links.ROWS,
)
FAULTS: Mapping[str, Fault] = MappingProxyType({row.name: row for row in _ROWS})
