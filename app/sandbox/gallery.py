"""Encoded images, drawn in threads and cached."""

import asyncio
import threading
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.sandbox import picture

_COMPOSITIONS = 8  # a prompt that is repeated a thousand times costs eight drawings


@dataclass(frozen=True, slots=True)
class Plate:
    """What an image is drawn from; `take` counts the generations of the same prompt."""

    seed: int
    prompt: str
    width: int
    height: int
    index: int
    take: int
    image_format: str
    style: str

    def drawing(self) -> tuple[object, ...]:
        """The cache key: everything that the pixels depend on."""
        pixels = (self.width, self.height, self.image_format, self.style)
        if self.style == "plain":
            return pixels
        return (*pixels, self.seed, self.prompt, self.index, self.take % _COMPOSITIONS)


class Gallery:
    """Draws images and caches the latest; thread-safe."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._encoded: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._painters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="painter")

    async def bytes_of(self, plate: Plate) -> bytes:
        """The bytes of the file, which differ for every take and index."""
        encoded = self._recall(plate)
        if encoded is None:
            loop = asyncio.get_running_loop()
            encoded = await loop.run_in_executor(self._painters, self._paint, plate)
        text = f"sandbox {plate.seed} {plate.take} {plate.index} {hash_of(plate.prompt)}"
        return picture.stamp(encoded, text)

    def close(self) -> None:
        """Stops the threads."""
        self._painters.shutdown(wait=True, cancel_futures=True)

    def _recall(self, plate: Plate) -> bytes | None:
        with self._lock:
            key = plate.drawing()
            if key in self._encoded:
                self._encoded.move_to_end(key)
            return self._encoded.get(key)

    def _paint(self, plate: Plate) -> bytes:
        # Another thread may have drawn the same image while this call waited.
        encoded = self._recall(plate)
        if encoded is not None:
            return encoded
        if plate.style == "plain":
            encoded = picture.encode_plain(plate.width, plate.height, plate.image_format)
        else:
            drawn = picture.draw(repr(plate.drawing()[4:]), plate.width, plate.height)
            encoded = picture.encode(drawn, plate.image_format)
        with self._lock:
            self._encoded[plate.drawing()] = encoded
            while len(self._encoded) > self._capacity:
                self._encoded.popitem(last=False)
        return encoded


def hash_of(prompt: str) -> str:
    """A short hash of a prompt, the same in every run."""
    return f"{zlib.crc32(prompt.encode('utf-8', 'surrogatepass')):08x}"
