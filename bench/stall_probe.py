"""Koi with a probe in its event loop; started by `bench.stalls` in a checkout's own interpreter."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from app import cli
from app.server import run

TICK_S = 0.002


async def probe(log: Path) -> None:
    """For each wake-up: when, by how much it was late, and the CPU time of this thread since."""
    with log.open("w", buffering=1 << 16) as ticks:
        wall, ran = time.monotonic(), time.thread_time()
        while True:
            await asyncio.sleep(TICK_S)
            now, used = time.monotonic(), time.thread_time()
            ticks.write(f"{now:.6f} {now - wall - TICK_S:.6f} {used - ran:.6f}\n")
            wall, ran = time.monotonic(), time.thread_time()


def main() -> int:
    log, opened = Path(sys.argv[1]), run.open_gateway
    probes: list[asyncio.Future[None]] = []

    def probed(settings: Any) -> Any:
        probes.append(asyncio.ensure_future(probe(log)))
        return opened(settings)

    run.open_gateway = probed
    sys.argv = ["koi", "serve", *sys.argv[2:]]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
