"""How the traffic to the provider stood a moment ago, for the metrics and the console."""

from app.domain.upstream import UpstreamTraffic
from app.telemetry.metrics import Metrics


class TrafficBoard:
    """`latest` is a second old; None before the first."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.latest: UpstreamTraffic | None = None

    def __call__(self, traffic: UpstreamTraffic) -> None:
        self.latest = traffic
        self._metrics.traffic(traffic)
