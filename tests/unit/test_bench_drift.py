"""What `make bench-drift` calls a regression."""

from dataclasses import asdict, replace

from bench.drift import Counts, judge

BEFORE = Counts(instructions=90_000, scripts=4, commands=115, store_bytes=11_900, log_bytes=7_100)
CHEAP = Counts(instructions=6_300, scripts=0, commands=0, store_bytes=0, log_bytes=0)
BASELINE = {"hit": asdict(BEFORE), "401": asdict(CHEAP)}


def test_a_tenth_more_is_not_a_regression() -> None:
    assert not judge({"hit": replace(BEFORE, instructions=98_900, commands=126)}, BASELINE)


def test_more_than_a_tenth_names_the_row_the_count_and_both_values() -> None:
    (sentence,) = judge({"hit": replace(BEFORE, instructions=99_100)}, BASELINE)
    assert sentence == "hit: instructions 90,000.0 -> 99,100.0 a request (+10%)"


def test_every_count_is_judged_for_itself() -> None:
    worse = Counts(
        instructions=80_000, scripts=6, commands=130, store_bytes=14_000, log_bytes=8_000
    )
    assert [text.split()[1] for text in judge({"hit": worse}, BASELINE)] == [
        "scripts",
        "commands",
        "store_bytes",
        "log_bytes",
    ]


def test_commands_where_there_were_none_are_a_regression() -> None:
    (sentence,) = judge({"401": replace(CHEAP, commands=2)}, BASELINE)
    assert sentence == "401: commands 0.0 -> 2.0 a request"


def test_one_script_more_alone_is_not_a_regression() -> None:
    """A signal that is read a moment later is one; what it costs shows in the other counts."""
    assert not judge({"hit": replace(BEFORE, scripts=5)}, BASELINE)


def test_a_tenth_of_almost_nothing_is_not_a_regression() -> None:
    assert not judge({"401": replace(CHEAP, store_bytes=90, log_bytes=40)}, BASELINE)


def test_a_row_without_a_baseline_is_not_judged() -> None:
    assert not judge({"new": BEFORE}, BASELINE)
