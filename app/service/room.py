"""How much work a loop may still begin here."""

import asyncio


class Room:
    """Room for `total` pieces of work, which one loop begins and which end by themselves."""

    def __init__(self, total: int) -> None:
        self.left = total
        self._freed: asyncio.Future[None] | None = None

    async def wait(self) -> int:
        """Wait until there is some; how much there is."""
        while self.left <= 0:
            self._freed = asyncio.get_running_loop().create_future()
            await self._freed
        return self.left

    def take(self) -> None:
        """A piece of work begins."""
        self.left -= 1

    def give_back(self) -> None:
        """A piece of work has ended."""
        self.left += 1
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
