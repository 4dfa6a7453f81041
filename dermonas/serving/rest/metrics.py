"""What a server counts, for Prometheus. A registry of its own, so that two servers in one process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("dermonas_requests", "Requests answered", ("route", "status"), registry=registry)
        self.refused = Counter("dermonas_refused", "Requests refused, by reason", ("reason",), registry=registry)
        self.seconds = Histogram(
            "dermonas_request_seconds", "First byte to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self.images = Counter("dermonas_images", "Images answered", registry=registry)
        self.abstained = Counter("dermonas_abstained", "Images on which the model abstained", registry=registry)
        self.batches = Histogram("dermonas_batch_images", "Images of a step", buckets=_IMAGES, registry=registry)
        self.answering = Gauge("dermonas_requests_in_flight", "Requests being answered", registry=registry)
        self.arriving = Gauge("dermonas_bodies_arriving", "Requests whose body is on its way", registry=registry)
        self.swaps = Counter("dermonas_swaps", "Times that another version took over", registry=registry)
        self.watch_failures = Counter(
            "dermonas_watch_failures", "Times that the registry or a new version failed", registry=registry
        )
        self._model = Info("dermonas_model", "The version that answers", registry=registry)

    def model(self, name: str, version: str, digest: str) -> None:
        """Say which version answers."""
        self._model.info({"name": name, "version": version, "digest": digest})

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        return generate_latest(self._registry)
