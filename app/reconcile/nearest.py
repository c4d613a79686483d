"""Pairing moments of two sides, the nearest first."""

import heapq
from collections.abc import Iterator, Sequence


def pair_nearest(
    left: Sequence[int], right: Sequence[int], within: int
) -> Iterator[tuple[int, int]]:
    """Pairs of indices, the closest moments first, each used once, none further than `within`."""
    row = _NeighbourList(
        sorted(
            [(at, 0, index) for index, at in enumerate(left)]
            + [(at, 1, index) for index, at in enumerate(right)]
        )
    )
    while row.close:
        apart, a, b = heapq.heappop(row.close)
        if apart > within:
            return
        if row.take(a, b):
            mine, theirs = sorted((row.points[a][1:], row.points[b][1:]))
            yield mine[1], theirs[1]


class _NeighbourList:
    """Moments (at, side, index) in order. Of those not taken yet, the closest two of different
    sides are always neighbours: `close` is the heap of such, (apart, a, b)."""

    def __init__(self, points: list[tuple[int, int, int]]) -> None:
        self.points = points
        self.close: list[tuple[int, int, int]] = []
        self._before = list(range(-1, len(points)))
        self._after = list(range(1, len(points) + 1))
        self._taken = [False] * len(points)
        for place in range(len(points) - 1):
            self._join(place, place + 1)

    def take(self, a: int, b: int) -> bool:
        """Take neighbours out, unless one of them is gone."""
        if self._taken[a] or self._taken[b]:
            return False
        self._taken[a] = self._taken[b] = True
        outer = self._before[a], self._after[b]
        if outer[0] >= 0 and outer[1] < len(self.points):
            self._join(*outer)
        elif outer[0] >= 0:
            self._after[outer[0]] = outer[1]
        else:
            self._before[outer[1]] = outer[0]
        return True

    def _join(self, a: int, b: int) -> None:
        self._after[a], self._before[b] = b, a
        if self.points[a][1] != self.points[b][1]:
            heapq.heappush(self.close, (self.points[b][0] - self.points[a][0], a, b))
