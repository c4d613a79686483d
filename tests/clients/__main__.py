"""`python -m tests.clients`: every client led through every fault, as a table.

`--clients ai-7,litellm` and `--scenarios 500,reset` take some; `--json FILE` writes the figures
for machines, `--readme` puts the short table between README's markers. Without a choice it also
asks all statements, measures LiteLLM's proxy beside Koi, and writes deploy/CONFORMANCE.md: half an
hour, most of it waiting. Exits 1 on a broken promise of Koi.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import redis
import structlog

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.clients.catalog import CLIENTS, HOUSE, PROXY, Client, chosen
from tests.clients.process import Driver
from tests.clients.scenarios import BY_NAME, SCENARIOS, Scenario
from tests.clients.tables import long_table, put_between_markers, short_table
from tests.clients.trial import Outcome, play
from tests.conformance.page import PAGE, Row, put, written
from tests.conformance.run import ask_both, led_through_litellm, minutes_since
from tests.harness import gateway, quick_sandbox

README = Path(__file__).parent.parent.parent / "README.md"
AT_ONCE = 3
"""Clients at once: they mostly wait, and each has a provider, a store and gateways of its own."""
BESIDE_AT_ONCE = 5
"""In LiteLLM's place they wait longer, for its repeats and their own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--clients", default="", help=", ".join(c.name for c in CLIENTS))
    parser.add_argument("--scenarios", default="", help=", ".join(BY_NAME))
    parser.add_argument("--json", type=Path, help="where the figures go for machines")
    parser.add_argument("--readme", action="store_true", help="put the short table into README")
    asked = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    if not (asked.clients or asked.scenarios):
        return measure_everything(asked)
    scenarios = [BY_NAME[name] for name in asked.scenarios.split(",") if name] or SCENARIOS
    clients = [client for client in chosen(asked.clients) if not why_not_installed(client)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda client: led_through(client, scenarios), clients))
    return report(rows, clients, scenarios, asked)


def measure_everything(asked: argparse.Namespace) -> int:
    """Both gateways, all statements, all clients, all faults; writes the page."""
    began = time.monotonic()
    tell("This installs what is missing, asks 94 statements and drives 19 clients: half an hour.")
    reasons = {client: why_not_installed(client) for client in (PROXY, HOUSE, *CLIENTS)}
    clients = [client for client in (HOUSE, *CLIENTS) if not reasons[client]]
    with (
        ThreadPoolExecutor(1) as first,
        ThreadPoolExecutor(AT_ONCE) as pool,
        ThreadPoolExecutor(BESIDE_AT_ONCE) as other,
    ):
        asking = first.submit(ask_both, tell)
        koi = pool.map(lambda client: led_through(client, SCENARIOS), clients)
        beside = other.map(lambda client: led_through_litellm(client, SCENARIOS, tell), clients)
        statements, own, others = asking.result(), list(koi), list(beside)
    rows = [Row(c.title, k, o) for c, k, o in zip(clients, own, others, strict=True)]
    rows += [Row(c.title, not_measured=why) for c, why in reasons.items() if why and c != PROXY]
    put(written(statements, rows, SCENARIOS, minutes_since(began)))
    tell(f"{PAGE.name} is written, after {minutes_since(began)}")
    return report(own, clients, SCENARIOS, asked)


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
    tell(f"{client.name} {scenario.name}: {words}")
    return outcome


def why_not_installed(client: Client) -> str:
    """Empty once it is."""
    tell(f"preparing {client.name} ...")
    try:
        client.prepare()
    except FileNotFoundError:
        reason = "no npm here"
    except subprocess.CalledProcessError as error:
        (*_, last) = error.stderr.strip().splitlines() or [""]
        reason = f"cannot be installed: {last[-200:]}"
    else:
        return ""
    tell(f"{client.name}: {reason}")
    return reason


def tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
