"""The judges of the long soak find what is wrong when something is."""

from collections import Counter
from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.chaos.calls import Call, End, Manner
from tests.chaos.clerk import Clerk
from tests.chaos.crowd import Crowd
from tests.chaos.posts import Posts
from tests.chaos.samples import Sample, Samples, Seen
from tests.chaos.verdict import contradictions

FLAT = [80.0, 95.0, 96.0, 96.0]
"""The life of a process in quarters: it warms up, then nothing happens."""


def lived(rss: list[float], fds: list[int], held: list[int]) -> Samples:
    """An hour of one process and its store, in four looks a quarter."""
    samples = Samples(Path("unwritten.csv"))
    for look in range(16):
        at_s, quarter = 240.0 * look, look // 4
        samples.processes.append(Seen(at_s, "0-auto", 1, rss[quarter], fds[quarter], 8))
        samples.load.append(Sample(at_s, 5.0, 0, 3, 0, held[quarter], 0, 0, 1.0))
    return samples


def test_what_warms_up_and_then_stays_is_flat() -> None:
    assert lived(FLAT, [20, 40, 40, 44], [5, 10, 12, 11]).grown() == []


@pytest.mark.parametrize(
    ("samples", "guilty"),
    [
        (lived([80, 90, 100, 110], [30] * 4, [5] * 4), "rss_mb grew from 90 to 110"),
        (lived(FLAT, [30, 35, 40, 45], [5] * 4), "fds grew from 35 to 45"),
        (lived(FLAT, [30] * 4, [5, 10, 20, 40]), "held_images grew from 10 to 40"),
    ],
    ids=["memory", "descriptors", "reservations"],
)
def test_what_goes_on_growing_is_told(samples: Samples, guilty: str) -> None:
    (problem,) = samples.grown()

    assert problem.replace(".0", "").endswith(guilty)


def test_the_young_are_not_judged() -> None:
    samples = lived([10, 20, 40, 80], [30] * 4, [5] * 4)
    samples.processes = samples.processes[6:8]

    assert samples.grown() == []


def test_a_second_post_and_a_post_after_the_end_are_told() -> None:
    call = Call("koi 1", "ann", "sk", "key_1", Manner.KEYED, end=End.REFUSED)
    with Sandbox() as sandbox:
        clerk = Clerk(Crowd((), {}, 1, 1), Posts(sandbox), settle_s=0)
        clerk.posts.by_prompt = Counter({"koi 2": 1})
        clerk.strangers()

    assert [problem.partition(" [")[0] for problem in contradictions(call, [], 2)] == [
        "I8: 2 POSTs",
        "I5: sent, but not in the ledger",
    ]
    assert clerk.problems == ["a POST after the end of 'koi 2'"]
