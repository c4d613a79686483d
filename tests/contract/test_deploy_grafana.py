"""Grafana finds what compose puts where, and draws it without overlaps."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())


def test_panels_do_not_overlap_and_are_numbered_once() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_grafana_finds_datasource_and_dashboard_where_compose_puts_them() -> None:
    provisioning = GRAFANA / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((provisioning / "dashboards/koi.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    volumes = compose["services"]["grafana"]["volumes"]

    assert source["url"] == "http://prometheus:9090"
    mount = f"./deploy/grafana/dashboard.json:{provider['options']['path']}/dashboard.json:ro"
    assert mount in volumes
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
