"""Every alert and every panel is asked of a real Prometheus that scrapes real metrics."""

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml

from app.domain.images import Picture
from app.domain.job import Job, JobState, Outcome
from app.domain.ledger import LedgerAudit, OpenJobStats
from app.settings import Settings
from app.telemetry.label_values import LabelValues
from app.telemetry.metric_specs import METRIC_SPECS, MetricKind
from app.telemetry.metrics import Metrics
from tests.ports import free_port

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule["expr"] for rule in RULES}
DASHBOARD = json.loads((PROMETHEUS.parent / "grafana" / "dashboard.json").read_text())
PANELS = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
EXPRESSIONS = [*PANELS, *ALERTS.items()]
WORD = r"\b(?:koi_\w+|process_\w+|up\b)"
TOKEN = "a-token-that-prometheus-must-send"
ROUTE = "/v1/images/generations"
JOB = Job(
    id="task_1", key_id="k", user="ada", team=None, pool="user:ada", model="koi-1", n=2,
    size="1024x1024", quality="hd", unit_micros=140_000, created_ms=0, dispatched_ms=1_000,
    ended_ms=21_000,
)  # fmt: skip
PICTURE = Picture("img_1", "image/png", 1, 1)


def with_ranges(expression: str) -> str:
    return re.sub(r"\$__(rate_interval|range)", "10s", expression)


def selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    if isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    for name in ("expr", "lhs", "rhs", "args"):
        inner = getattr(node, name, None)
        for child in inner if isinstance(inner, list) else [inner]:
            if child is not None and type(child).__module__.startswith(("promql", "builtins")):
                yield from selectors(child)


def samples() -> dict[str, set[str]]:
    """Every exported sample name with its labels."""
    known = {"up": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
    for spec in METRIC_SPECS:
        labels = {*spec.labels, "job", "instance"}
        if spec.kind is MetricKind.HISTOGRAM:
            known[f"{spec.full_name}_bucket"] = labels | {"le"}
            known[f"{spec.full_name}_count"] = labels
            known[f"{spec.full_name}_sum"] = labels
        else:
            known[spec.full_name] = labels
    return known


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[e[0] for e in EXPRESSIONS])
def test_an_expression_asks_for_series_and_labels_that_exist(name: str, expression: str) -> None:
    known = samples()

    found = list(selectors(promql_parser.parse(with_ranges(expression))))

    assert {selector.name for selector in found} == set(re.findall(WORD, expression))
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    for selector in found:
        asked = {matcher.name for matcher in selector.matchers.matchers}
        asked |= {label.strip() for labels in grouped for label in labels.split(",")}
        assert asked <= known[selector.name]


def test_the_dashboard_shows_every_series() -> None:
    text = " ".join(expression for _, expression in PANELS)

    assert [s.full_name for s in METRIC_SPECS if s.full_name not in text] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"].endswith(".")


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_alerts() -> None:
    promtool("check", "rules", "alerts.yml")


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    config = configure(tmp_path, "gateway:8000")

    promtool("check", "config", str(config))


def configure(directory: Path, target: str) -> Path:
    """The shipped configuration, with this machine's paths and a faster clock."""
    (directory / "token").write_text(TOKEN)
    text = (PROMETHEUS / "prometheus.yml").read_text()
    for old, new in {
        "/run/secrets/metrics_token": str(directory / "token"),
        "- alerts.yml": f"- {PROMETHEUS / 'alerts.yml'}",
        "gateway:8000": target,
        "_interval: 15s": "_interval: 500ms",
    }.items():
        assert old in text
        text = text.replace(old, new)
    config = directory / "prometheus.yml"
    config.write_text(text)
    return config


def live(metrics: Metrics) -> None:
    """A little of everything, so that every counter rises between two scrapes."""
    for status in (200, 429, 502):
        metrics.observe_request(ROUTE, "POST", status, 20.0, 0.0004, "miss")
    for outcome in ("hit", "miss"):
        metrics.cached(outcome, "koi-1", 1)
    for outcome in ("ok", "upstream_error"):
        metrics.upstream("submit", outcome, 0.3)
    metrics.refused("insufficient_quota")
    metrics.egress_override()
    metrics.queued(0.01)
    metrics.settled(JOB, Outcome(JobState.SETTLED, (PICTURE,), billed=2, presumed=1, surplus=1))
    metrics.settled(replace(JOB, unit_micros=None), Outcome(JobState.SETTLED, billed=1))
    metrics.polled(0.2)
    metrics.settlement_lost()
    metrics.upstream_event("unknown_status")
    metrics.upstream_event("reattempt")
    metrics.loop_failed("poller")
    metrics.store_command("admit", "ok", 0.0004)
    metrics.loop_stalled(0.02)
    metrics.publish_job_stats(OpenJobStats({JobState.DISPATCHED: 4}, 5, 700_000, 1_500))
    metrics.publish_audit(LedgerAudit(9, 4, 3, ()))


@contextmanager
def gateway() -> Iterator[str]:
    metrics = Metrics(
        LabelValues(
            models=frozenset({"koi-1"}),
            routes=frozenset({ROUTE}),
            scripts=frozenset({"admit"}),
            loops=frozenset({"poller"}),
            version=str(Settings.model_fields["port"].default),
        )
    )

    class Scrape(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["authorization"] == f"Bearer {TOKEN}"
            live(metrics)
            self.send_response(200 if allowed else 401)
            self.send_header("content-type", metrics.content_type)
            self.end_headers()
            self.wfile.write(metrics.render() if allowed else b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scrape) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus with the shipped configuration and rules, after a few scrapes."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    directory = tmp_path_factory.mktemp("prometheus")
    address = f"127.0.0.1:{free_port()}"
    with gateway() as target, (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [binary, f"--config.file={configure(directory, target)}",
             f"--storage.tsdb.path={directory / 'tsdb'}", f"--web.listen-address={address}"],
            stderr=log,
        )  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False) as client:
                wait_for_scrapes(client, directory / "log")
                yield client
        finally:
            process.terminate()
            process.wait(10)


def wait_for_scrapes(client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if ask(client, 'count_over_time(up{job="koi"}[1m]) >= 4 and up == 1'):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(log.read_text()[-2_000:])


def ask(client: httpx.Client, expression: str) -> list[Any]:
    reply = client.get("/query", params={"query": with_ranges(expression)})
    if reply.status_code == 503:  # still opening its own store, said in plain text
        return []
    answer = reply.json()
    assert answer["status"] in ("success", "error")
    if answer["status"] == "error":
        raise AssertionError(answer["error"])
    return list(answer["data"]["result"])


@pytest.mark.parametrize(("panel", "expression"), PANELS, ids=[panel[0] for panel in PANELS])
def test_a_panel_shows_something(prometheus: httpx.Client, panel: str, expression: str) -> None:
    assert ask(prometheus, expression)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_s_expression_runs(prometheus: httpx.Client, alert: str) -> None:
    ask(prometheus, ALERTS[alert])


def test_prometheus_evaluates_every_rule_of_the_shipped_configuration(
    prometheus: httpx.Client,
) -> None:
    groups = prometheus.get("/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    assert rules == dict.fromkeys(ALERTS, "ok")


def test_what_was_scraped_is_what_was_counted(prometheus: httpx.Client) -> None:
    billed, delivered = "koi_images_billed_total", "koi_images_delivered_total"
    # In one question: the next scrape may come between two.
    [ratio] = ask(prometheus, f"{billed}{{model='koi-1'}} / {delivered}{{model='koi-1'}}")

    assert float(ratio["value"][1]) == 3
