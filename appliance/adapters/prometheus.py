"""Prometheus' text format, from plain numbers.

The numbers are kept by their owner and handed over whole at every scrape, so there is no global registry, no
multiprocess directory (a killed worker can leave a file in it that breaks every scrape), and no `_created` series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Histogram:
    """One histogram: `bounds` ascending upper bounds; `counts` has one more, for everything above."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[sum(value > bound for bound in self.bounds)] += 1
        self.total += value

    def copy(self) -> Histogram:
        """One that does not change while it is written out."""
        return Histogram(self.bounds, list(self.counts), self.total)

    def cumulative(self) -> list[tuple[str, float]]:
        """(`le`, number of observations up to it), as the format wants them."""
        names = [*(format(bound, "g") for bound in self.bounds), "+Inf"]
        return [(name, float(sum(self.counts[: place + 1]))) for place, name in enumerate(names)]


@dataclass(frozen=True)
class Family:
    """One metric: its name without a counter's `_total`, and a value (or Histogram) for each tuple of label values."""

    kind: str
    name: str
    help: str
    labels: tuple[str, ...]
    samples: dict[tuple[str, ...], float | Histogram]


def exposition(families: Iterable[Family]) -> bytes:
    """The body of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(families))
    return generate_latest(registry)


class _Scrape:
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield _metric(family)


def _metric(family: Family) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in family.samples.items():
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, value.cumulative(), value.total)
        return histogram
    plain = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = plain(family.name, family.help, labels=family.labels)
    for labels, value in family.samples.items():
        assert isinstance(value, float | int)
        metric.add_metric(labels, value)
    return metric
