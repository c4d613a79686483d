"""What entries and open jobs add up to, line by line."""

from collections import defaultdict
from collections.abc import Mapping

from app.adapters.redis.bound import HOUSE, lines_of

FIELDS = ("images", "micros", "held_images", "held_micros")
NOTHING = (0, 0, 0, 0)


class Sums:
    """line -> images, micros, held images, held micros."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = defaultdict(lambda: list(NOTHING))

    def add(self, line: str, *amounts: int) -> None:
        sums = self.lines[line]
        for place, amount in enumerate(amounts):
            sums[place] += amount

    def enter(self, row: Mapping[str, str]) -> None:
        """Add what an entry charged to each line it is written in."""
        images, micros = int(row["images"]), int(row.get("micros", 0))
        for line in lines_of(row["key"], row["user"], row.get("team")):
            if line == HOUSE:
                images += int(row["surplus"])
                micros += int(row.get("surplus_micros", 0))
            self.add(line, images, micros)

    def hold(self, job: Mapping[str, str]) -> None:
        """Add what an open job holds in each line it is written in."""
        images = int(job["n"])
        micros = images * int(job.get("unit", 0))
        for line in lines_of(job["key"], job["user"], job.get("team")):
            self.add(line, 0, 0, images, micros)
