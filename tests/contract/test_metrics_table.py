"""The list of metrics in the documentation is the list of metrics in the code."""

import re
from pathlib import Path

import pytest

from app.telemetry.metric_specs import METRIC_SPECS, GaugeMerge, MetricKind, MetricSpec

README = Path(__file__).parents[2] / "deploy" / "README.md"
ROW = re.compile(r"^\| `(koi_\w+)` \| (.*?) \| (.+?) \|$", re.MULTILINE)
STORE_WIDE = {s.full_name for s in METRIC_SPECS if s.merge is GaugeMerge.LATEST} - {
    "koi_build_info"
}


def rows() -> list[tuple[str, tuple[str, ...], str]]:
    found = ROW.findall(README.read_text(encoding="utf-8"))
    return [(name, tuple(re.findall(r"`(\w+)`", labels)), text) for name, labels, text in found]


def test_the_documentation_lists_every_series_with_its_labels_and_meaning() -> None:
    documented = [(name, labels, text.removesuffix(" (*store*)")) for name, labels, text in rows()]

    assert documented == [(s.full_name, s.labels, s.help_text) for s in METRIC_SPECS]


def test_the_documentation_marks_what_must_not_be_added_up_over_replicas() -> None:
    assert {name for name, _, text in rows() if text.endswith("(*store*)")} == STORE_WIDE


@pytest.mark.parametrize("spec", METRIC_SPECS, ids=lambda spec: spec.name)
def test_a_series_follows_the_naming_rules_of_prometheus(spec: MetricSpec) -> None:
    assert re.fullmatch(r"koi_[a-z]+(_[a-z]+)*", spec.full_name)
    assert spec.name.endswith("_total") == (spec.kind is MetricKind.COUNTER)
    assert spec.help_text
    assert not spec.help_text.endswith(".")
    if spec.kind is MetricKind.HISTOGRAM:
        assert spec.name.endswith("_seconds")
        assert list(spec.buckets) == sorted(set(spec.buckets))


def test_no_label_could_name_a_caller() -> None:
    labels = {label for spec in METRIC_SPECS for label in spec.labels}

    assert not labels & {"user", "team", "key", "key_id", "prompt", "task", "task_id", "job"}
