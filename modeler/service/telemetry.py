"""What operators see of the service: metrics, one JSON log line a request, and the request's id, which callers see too."""

import atexit
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from datetime import datetime, timezone

import prometheus_client
from prometheus_client import multiprocess
from pydantic_core import to_json

FOLDER = "PREDICTION_METRICS_FOLDER"  # environment variable: the folder in which workers share their metrics
REQUEST_ID = re.compile("[!-~]{1,128}")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


def choose_request_id(given: str) -> str:
    """The caller's id, or a new one unless that is 1 to 128 visible ASCII characters."""
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def write_log_line(**line) -> None:
    """Write one request to standard output, with the time; nothing of its body may be in there."""
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    try:
        # workers share the output, and where Python buffers nothing, as in an image, `print` writes the end of a line apart
        sys.stdout.write(to_json({"time": time, **line}).decode() + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass  # nobody reads the log any more; the request is answered all the same


def share_metrics() -> None:
    """Give the workers of this server a folder for their metrics, and remove it at the server's end.

    BentoML has one folder for all servers of a store, and each new server empties it.
    """
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="metrics-")
    atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)


class Metrics:
    """Counts requests, under the names and labels of BentoML's own metrics, and predictions and warnings."""

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
        self._logged = prometheus_client.Counter(
            "prediction_log_lines", "Lines of the prediction log: written or dropped", ["outcome"], **here
        )
        self._callers = prometheus_client.Counter(
            "key_requests",
            "Requests that need a key, by its name, which is empty without a right one, and status",
            ["key", "http_response_code"],
            **here,
        )
        self._labels = {"service_name": service, "service_version": version, "runner_name": service}
        self._of_route, self._of_label, self._of_caller = {}, {}, {}

    def count_request(self, route: str, status: int, seconds: float, caller: str | None = None) -> None:
        """Count a request by route and status and, unless it needs no key, by its caller and status."""
        key = route, status
        if key not in self._of_route:
            labels = {"endpoint": route, "http_response_code": status, **self._labels}
            self._of_route[key] = self._requests.labels(**labels), self._seconds.labels(**labels)
        requests, durations = self._of_route[key]
        requests.inc()
        durations.observe(seconds)
        if caller is not None:
            key = caller, status
            if key not in self._of_caller:
                self._of_caller[key] = self._callers.labels(*key)
            self._of_caller[key].inc()

    def count_answer(self, model: str, labels: list[str], warnings: list[str]) -> None:
        for family, values in ((self._predictions, labels), (self._warnings, warnings)):
            for value, count in Counter(values).items() if values else ():
                key = family, model, value
                if key not in self._of_label:
                    self._of_label[key] = family.labels(model, value)
                self._of_label[key].inc(count)

    def count_lines(self, outcome: str, lines: int) -> None:
        """Count lines of the prediction log that were "written" or "dropped"."""
        self._logged.labels(outcome).inc(lines)

    def expose(self, predictor=None) -> bytes:
        """All metrics of all worker processes, as Prometheus reads them, and since when this one's predictor answers."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        told = prometheus_client.generate_latest(registry)
        if predictor:  # by itself: of a gauge that workers share, the model before would stay
            name = "bentoml_service_model_since_timestamp_seconds"
            since = f'{name}{{model="{predictor.tag}"}} {predictor.since.timestamp()}'
            told += f"# HELP {name} Unix time since when the model answers\n# TYPE {name} gauge\n{since}\n".encode()
        return told
