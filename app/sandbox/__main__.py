"""`python -m app.sandbox`: the provider as its own process, which prints its URLs as JSON."""

import argparse
import json
import signal
import sys
import threading

from app.sandbox.profiles import PROFILES
from app.sandbox.server import Sandbox
from app.sandbox.switches import DOCUMENTED_LIMITS


def main() -> None:
    """Serves until SIGTERM or SIGINT; limits are off by default."""
    parser = argparse.ArgumentParser(prog="python -m app.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--profile", choices=list(PROFILES), default="doc")
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limits", action="store_true", help="the documented rate limits per key")
    asked = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Sandbox(
        asked.profile, asked.time_scale, asked.port, asked.cdn_port, asked.seed, host=asked.host
    ) as sandbox:
        if asked.limits:
            sandbox.start_with(**DOCUMENTED_LIMITS)
        line = json.dumps({"url": sandbox.url, "cdn_url": sandbox.cdn_url})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
