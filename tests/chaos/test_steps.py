"""SIGKILL at every step of a call, in both upstream modes; another process takes over."""

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.chaos.calls import Manner
from tests.chaos.posts import Posts
from tests.chaos.steps import Fate, steps
from tests.chaos.trial import Trial, undergo
from tests.harness import PRICED, quick_sandbox

DATABASES = 16
"""Databases of the store, one for each trial under way."""
QUICK: dict[str, Any] = {
    "upstream_api_key": "sk-sandbox",
    "upstream_timeout_s": 5,
    "upstream_queue_s": 1,
    "upstream_poll_interval_s": 0.8,
    "upstream_concurrency": 8,
    "resolve_after_s": 0.2,
    "redis_timeout_ms": 10_000,
    "log_level": "error",
}


@contextmanager
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        # Long enough for a poll that finds it running, short enough for a sync call.
        sandbox.set(picture_style="plain", latency_s=2)
        yield sandbox


def undergone(trials: Sequence[Trial], path: Path, *faults: str) -> None:
    """Every trial in a database of its own, many at once; fails with all that was found."""
    databases: queue.Queue[int] = queue.Queue()
    for number in range(DATABASES):
        databases.put(number)
    catalog = path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 2", 1))
    with provider() as sandbox, EmbeddedStore(path / "store") as store:
        sandbox.script(*faults)

        def one(numbered: tuple[int, Trial]) -> list[str]:
            number, trial = numbered
            database = databases.get()
            place = path / f"trial-{number}"
            settings = {
                **QUICK,
                "upstream_base_url": sandbox.url,
                "upstream_mode": trial.mode,
                "redis_url": f"{store.url}?db={database}",
                "data_dir": place / "koi",
                "catalog": catalog,
            }
            try:
                return undergo(trial, settings, place)
            finally:
                databases.put(database)

        with ThreadPoolExecutor(DATABASES) as pool:
            problems = [line for found in pool.map(one, enumerate(trials)) for line in found]
        posts = Posts(sandbox)
        posts.look()
        problems += [
            f"I8: {trial}: {posts.by_prompt[trial.prompt]} POSTs"
            for trial in trials
            if posts.by_prompt[trial.prompt] != trial.fate.posts
        ]
        # What was sent was billed, what was billed is in the ledger: presumed where it was lost.
        if sandbox.billed_images != sum(t.n for t in trials if t.fate is not Fate.SILENT):
            problems.append(f"I5: the provider bills {sandbox.billed_images} images")
    assert not problems, "\n".join(problems)


def around(mode: str, manner: Manner, some: set[str] | None = None) -> list[Trial]:
    trials = [
        Trial((step.name,), mode, manner, step.fate)
        for step in steps(mode)
        if some is None or step.name in some
    ]
    return sorted(trials, key=lambda trial: trial.fate is Fate.PICTURE)  # the others take longest


OFTEN = {
    "after-recall",
    "after-admit",
    "after-dispatch",
    "during-post",
    "after-record",
    "after-poll",
    "after-put",
    "after-settle",
    "after-answer",
}
"""One step of each kind, for every run of the suite."""


def test_a_gateway_that_dies_costs_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    undergone(
        [*around("auto", Manner.MARKED, OFTEN), *around("sync", Manner.KEYED, OFTEN)], tmp_path
    )


@pytest.mark.chaos
@pytest.mark.parametrize("manner", [Manner.KEYED, Manner.MARKED])
@pytest.mark.parametrize("mode", ["auto", "sync"])
def test_a_gateway_that_dies_at_any_step_costs_nothing_twice_and_loses_nothing(
    mode: str, manner: Manner, tmp_path: Path
) -> None:
    undergone(around(mode, manner), tmp_path)


TAKERS = [
    *(
        Trial(("after-record", step), "auto", Manner.MARKED, Fate.PICTURE)
        for step in ("after-claim", "after-poll", "after-put", "before-settle", "after-settle")
    ),
    *(
        Trial(("after-admit", step), "auto", Manner.KEYED, Fate.PICTURE)
        for step in ("after-claim", "before-settle", "after-settle")
    ),
    *(
        Trial(("during-post", step), "sync", Manner.MARKED, Fate.LOST)
        for step in ("before-settle", "after-settle", "before-settle:2", "after-settle:2")
    ),
    Trial(("after-record", "after-claim", "before-settle"), "auto", Manner.KEYED, Fate.PICTURE),
]


def test_whoever_takes_over_may_die_too(tmp_path: Path) -> None:
    undergone(TAKERS[::4], tmp_path)


@pytest.mark.chaos
def test_whoever_takes_over_may_die_at_any_step_too(tmp_path: Path) -> None:
    undergone(TAKERS, tmp_path)


@pytest.mark.chaos
def test_one_of_two_upstream_calls_is_recovered_when_only_its_task_was_stored(
    tmp_path: Path,
) -> None:
    trial = Trial(("after-record",), "auto", Manner.KEYED, Fate.HALF, n=3)

    undergone([trial], tmp_path, "ok", "hang=60")
