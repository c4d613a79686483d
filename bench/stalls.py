"""`python -m bench.stalls CHECKOUT ...`: how long the event loop stands still under 10 MB pictures.

Eight callers ask for base64 of pictures that the provider sends as links, then as base64. A probe
in the gateway wakes every 2 ms: `late` is by how much it was late, which counts waiting for other
threads and for a busy machine; `run` is the CPU time of the loop's thread between two wake-ups.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, Place, free_port, run_json
from bench.koi import CATALOG

HERE = Path(__file__).resolve().parent
CALLERS = 8
PICTURE_KB = 10 << 10
SECONDS = 8.0
KEY = "sk-upstream-of-the-benchmark"


def measure(checkout: Path, image: str, folder: Path) -> str:
    folder.mkdir()
    (folder / "catalog.toml").write_text(CATALOG)
    python, stub, port = str(checkout / ".venv/bin/python"), free_port(), free_port()
    env = _settings(checkout, folder, stub)
    log, probe = folder / "ticks", str(HERE / "stall_probe.py")
    options = ["--image", image, "--image-kb", str(PICTURE_KB)]
    with ExitStack() as stack:
        provider = [sys.executable, "-m", "bench.stub", "--port", str(stub), *options]
        home = {"PYTHONPATH": str(HERE.parent)}
        stack.enter_context(Child("stub", provider, Place(LOAD_CORE, folder), home))
        command = [python, probe, str(log), "--host", "127.0.0.1", "--port", str(port)]
        koi = stack.enter_context(Child("koi", command, Place(GATEWAY_CORE, folder), env))
        koi.wait_until_ready(f"http://127.0.0.1:{port}/readyz")
        place = Place(LOAD_CORE, folder)
        words = [python, "-m", "app.cli", "users", "create", "u", "--json"]
        run_json("user", words, place, env)
        words = [python, "-m", "app.cli", "keys", "create", "--user", "u", "--new", "--json"]
        key = run_json("key", words, place, env)["key"]
        began, cpu = time.monotonic(), _cpu_s(koi.pid)
        answers = asyncio.run(_load(port, key))
        ended, cpu = time.monotonic(), _cpu_s(koi.pid) - cpu
        peak_mb = _peak_mb(koi.pid)
    ticks = [[float(word) for word in line.split()] for line in log.read_text().splitlines()[:-1]]
    ticks = [tick for tick in ticks if began < tick[0] < ended]
    late, ran = (sorted(tick[column] * 1000 for tick in ticks) for column in (1, 2))
    return (
        f"{checkout.name:8} {image:4} {answers:4} answers, {cpu / max(answers, 1) * 1000:6.1f} ms "
        f"CPU each; late {_spread(late)} ms; run {_spread(ran)} ms; peak {peak_mb:.0f} MB"
    )


def _settings(checkout: Path, folder: Path, stub: int) -> dict[str, str]:
    return {
        "KOI_UPSTREAM_BASE_URL": f"http://127.0.0.1:{stub}/v1",
        "KOI_UPSTREAM_API_KEY": KEY,
        "KOI_UPSTREAM_MODE": "sync",
        "KOI_DATA_DIR": str(folder / "state"),
        "KOI_CATALOG": str(folder / "catalog.toml"),
        "KOI_SYNC_WAIT_S": "180",
        "PYTHONPATH": str(checkout),
    }


def _spread(values: Sequence[float]) -> str:
    at = [values[min(int(len(values) * share), len(values) - 1)] for share in (0.5, 0.99, 0.999)]
    return " ".join(f"{value:.1f}" for value in [*at, values[-1]])


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / 100


def _peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def _load(port: int, key: str) -> int:
    deadline, counts = time.monotonic() + SECONDS, []

    async def call(number: int) -> None:
        count = 0
        while time.monotonic() < deadline:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            body = json.dumps(
                {
                    "model": "grok-imagine",
                    "prompt": f"koi {number} {count}",
                    "response_format": "b64_json",
                }
            )
            writer.write(
                f"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            size = 0
            while piece := await reader.read(1 << 20):
                size += len(piece)
            writer.close()
            if size < PICTURE_KB * 1024:
                raise RuntimeError(f"an answer of {size} bytes")
            count += 1
        counts.append(count)

    await asyncio.gather(*(call(number) for number in range(CALLERS)))
    return sum(counts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stalls", description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--image", choices=("url", "b64", "both"), default="both")
    asked = parser.parse_args()
    print("late and run: median, p99, p99.9, longest")
    with tempfile.TemporaryDirectory(prefix="koi-stalls-") as folder:
        for image in ("url", "b64") if asked.image == "both" else (asked.image,):
            for checkout in asked.checkouts:
                place = checkout.resolve()
                print(measure(place, image, Path(folder) / f"{place.name}-{image}"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
