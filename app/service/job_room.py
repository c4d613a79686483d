"""How many more jobs may be worked on at once in this process."""

import asyncio


class JobRoom:
    """Taken in one piece, however much: loops look for work many times a second."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._freed = asyncio.Event()

    def take(self, most: int) -> int:
        """As much as there is, up to `most`; 0 when there is none."""
        taken = min(self._free, most)
        self._free -= taken
        return taken

    async def wait_and_take(self, most: int) -> int:
        """The same once there is room for one."""
        while not self._free:
            self._freed.clear()
            await self._freed.wait()
        return self.take(most)

    def give_back(self, count: int = 1) -> None:
        self._free += count
        self._freed.set()
