"""What operators see of the service: its metrics, one JSON log line a request, and the ids that join the two sides."""

import atexit
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from datetime import datetime, timezone

import prometheus_client
from prometheus_client import multiprocess
from pydantic_core import to_json

FOLDER = "PREDICTION_METRICS_FOLDER"  # the environment variable that tells workers where they share their metrics
REQUEST_ID = re.compile("[!-~]{1,128}")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


def choose_request_id(given: str) -> str:
    """The caller's id, or a new one where there is none or it holds more than 128 or other than visible ASCII letters."""
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def write_log_line(request_id: str, model: str | None, rows: int | None, status: int, seconds: float, **more) -> None:
    """Write one request to standard output, without any value of its body."""
    line = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": request_id,
        "model": model,
        "rows": rows,
        "status": status,
        "milliseconds": round(seconds * 1000, 3),
        **more,
    }
    try:
        print(to_json(line).decode(), flush=True)
    except (OSError, ValueError):
        pass  # nobody reads any more, which is no reason not to answer


def share_metrics() -> None:
    """Give the workers of this server a folder for their metrics, removed at its end.

    That of BentoML is one for all servers of a store, and each new server empties it.
    """
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="metrics-")
    atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)


class Metrics:
    """Counts requests under the names that BentoML's own metrics have, and predictions and warnings.

    Parameters
    ----------
    service, version
        The service's name and its bento's version, as BentoML labels them.
    """

    def __init__(self, service: str, version: str):
        if folder := os.environ.get(FOLDER):
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        self._registry = prometheus_client.CollectorRegistry()
        labels = ["endpoint", "service_name", "service_version", "runner_name", "http_response_code"]
        here = {"namespace": "bentoml_service", "registry": self._registry}
        self._requests = prometheus_client.Counter("request", "Requests by route and status", labels, **here)
        self._seconds = prometheus_client.Histogram(
            "request_duration_seconds", "Time to answer", labels, buckets=BUCKETS, **here
        )
        self._predictions = prometheus_client.Counter(
            "predictions", "Answered rows by label, which is empty for a regression", ["model", "label"], **here
        )
        self._warnings = prometheus_client.Counter(
            "prediction_warnings", "Values unlike those of the training, by kind", ["model", "kind"], **here
        )
        self._labels = {"service_name": service, "service_version": version, "runner_name": service}
        self._of_route, self._of_label = {}, {}

    def count_request(self, route: str, status: int, seconds: float) -> None:
        key = route, status
        if key not in self._of_route:
            labels = {"endpoint": route, "http_response_code": status, **self._labels}
            self._of_route[key] = self._requests.labels(**labels), self._seconds.labels(**labels)
        requests, durations = self._of_route[key]
        requests.inc()
        durations.observe(seconds)

    def count_answer(self, model: str, labels: list[str], warnings: list[str]) -> None:
        for family, values in ((self._predictions, labels), (self._warnings, warnings)):
            for value, count in Counter(values).items() if values else ():
                key = family, model, value
                if key not in self._of_label:
                    self._of_label[key] = family.labels(model, value)
                self._of_label[key].inc(count)

    def expose(self) -> bytes:
        """All metrics of all worker processes, as Prometheus reads them."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return prometheus_client.generate_latest(registry)
