"""The Prometheus library's meters, without what it asks at each count: whether the labels are
complete (`LabelledMetric` gives them all), and of each bound in turn whether it is the one. Every
request counts a dozen times."""

from bisect import bisect_left

from prometheus_client import Counter, Gauge, Histogram


class LeanCounter(Counter):
    def inc(self, amount: float = 1, *_: object, **__: object) -> None:
        if amount < 0:
            raise ValueError("A counter only rises.")
        self._value.inc(amount)


class LeanGauge(Gauge):
    def inc(self, amount: float = 1) -> None:
        self._value.inc(amount)


class LeanHistogram(Histogram):
    def observe(self, amount: float, *_: object, **__: object) -> None:
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
