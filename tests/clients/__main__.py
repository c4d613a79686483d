"""`python -m tests.clients`: every client led through every fault, as a table.

`--clients ai-7,litellm` and `--scenarios 500,reset` take some; `--json FILE` writes the figures
for machines, `--readme` puts the short table between README's markers. Exits 1 on a broken promise.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import redis
import structlog

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.clients.catalog import CLIENTS, Client, chosen
from tests.clients.process import Driver
from tests.clients.scenarios import BY_NAME, SCENARIOS, Scenario
from tests.clients.tables import long_table, put_between_markers, short_table
from tests.clients.trial import Outcome, play
from tests.harness import gateway, quick_sandbox

README = Path(__file__).parent.parent.parent / "README.md"
AT_ONCE = 3
"""Clients at once: they mostly wait, and each has a provider, a store and gateways of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--clients", default="", help=", ".join(c.name for c in CLIENTS))
    parser.add_argument("--scenarios", default="", help=", ".join(BY_NAME))
    parser.add_argument("--json", type=Path, help="where the figures go for machines")
    parser.add_argument("--readme", action="store_true", help="put the short table into README")
    asked = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    scenarios = [BY_NAME[name] for name in asked.scenarios.split(",") if name] or SCENARIOS
    clients = [client for client in chosen(asked.clients) if _installed(client)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda client: led_through(client, scenarios), clients))
    return report(rows, clients, scenarios, asked)


def report(
    rows: Sequence[list[Outcome]],
    clients: Sequence[Client],
    scenarios: Sequence[Scenario],
    asked: argparse.Namespace,
) -> int:
    outcomes = [outcome for row in rows for outcome in row]
    short = list(short_table(rows, clients, scenarios))
    print("\n".join([*long_table(outcomes), "", *short]))
    if asked.json is not None:
        told = [outcome.as_json(BY_NAME[outcome.scenario]) for outcome in outcomes]
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    if asked.readme:
        put_between_markers(README, short)
    broken = [o for o in outcomes if o.problems(BY_NAME[o.scenario])]
    print(f"\n{len(outcomes)} trials of {len(clients)} clients, {len(broken)} broke the promise")
    return 1 if broken else 0


def led_through(client: Client, scenarios: Sequence[Scenario]) -> list[Outcome]:
    """One client through all scenarios, each on a fresh gateway and an empty store."""
    folder = Path(tempfile.mkdtemp(prefix="koi-clients-"))
    try:
        with (
            EmbeddedStore(folder / "store") as store,
            quick_sandbox() as sandbox,
            Driver(client) as driver,
        ):
            return [one_trial(driver, s, store.url, sandbox, folder / s.name) for s in scenarios]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_trial(
    driver: Driver, scenario: Scenario, store_url: str, sandbox: Sandbox, folder: Path
) -> Outcome:
    client = driver.client
    with redis.Redis.from_url(store_url) as server:
        server.flushall()
    sandbox.reset()
    with gateway(sandbox, store_url, folder, **scenario.settings) as koi:
        try:
            outcome = play(koi, driver, scenario)
        except (TimeoutError, RuntimeError, AssertionError, httpx.HTTPError) as error:
            outcome = Outcome(
                client.name,
                scenario.name,
                sandbox.posts,
                sandbox.billed_images,
                error=f"{type(error).__name__}: {error}"[:300],
            )
    words = "; ".join(outcome.problems(scenario)) or "held"
    print(f"{client.name} {scenario.name}: {words}", file=sys.stderr, flush=True)
    return outcome


def _installed(client: Client) -> bool:
    print(f"preparing {client.name} ...", file=sys.stderr, flush=True)
    try:
        client.prepare()
    except FileNotFoundError:
        print(f"no npm here: {client.name} is left out", file=sys.stderr)
        return False
    except subprocess.CalledProcessError as error:
        print(f"{client.name} cannot be installed: {error.stderr[-500:]}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
