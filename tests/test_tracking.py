"""Runs at a server of MLflow: what is noted, and that a server that is away costs a line and no retrain."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from conftest import QUICK

from modeler.runs import tracking
from modeler.runs.tracking import describe_run, find_fault, track_runs, track_sweep
from modeler.ship.run import find_free_port

SERVER = os.environ.get("MLFLOW_SERVER", "")
needs_server = pytest.mark.skipif(
    not SERVER, reason="MLFLOW_SERVER does not name the command mlflow of the package mlflow; .ci/run installs one"
)
PARAMETERS = {"eda.ipynb": {"data": "a.csv", "seed": 0, "target": "", "out": "."}, "train.ipynb": {"seed": 1, "columns": "x" * 9000}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a real `mlflow server`."""
    folder, port = tmp_path_factory.mktemp("mlflow"), find_free_port()
    command = [SERVER, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "artifacts")]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    settings |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "log", "w") as log:
        streams = {"stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(command, cwd=folder, env=settings, **streams)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while find_fault(address):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def list_noted(server: str, experiment: str) -> list[dict]:
    """What the server has of an experiment's runs: `name`, `status`, parameters, metrics, tags, and the artefacts' names."""
    api = f"{server}/api/2.0/mlflow"
    found = requests.get(f"{api}/experiments/get-by-name", {"experiment_name": experiment}, timeout=30).json()
    asked = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 100}
    noted = []
    for run in requests.post(f"{api}/runs/search", json=asked, timeout=30).json()["runs"]:
        info, data = run["info"], run["data"]
        files = requests.get(f"{api}/artifacts/list", {"run_id": info["run_id"]}, timeout=30).json().get("files", [])
        told = {kind: {one["key"]: one["value"] for one in data.get(kind, [])} for kind in ("params", "metrics", "tags")}
        about = {"id": info["run_id"], "name": info["run_name"], "status": info["status"]}
        noted.append(about | told | {"files": sorted(file["path"] for file in files)})
    return sorted(noted, key=lambda one: one["name"])


@pytest.mark.slow
@needs_server
def test_retrains_are_noted_with_parameters_scores_verdict_and_pages(server, typed, project, monkeypatch):
    monkeypatch.setenv(tracking.ADDRESS, server.replace("://", "://somebody:secret@"))
    done = typed(*QUICK, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # what MLflow prints stays out of it
    assert f"mlflow     1 run in the experiment breast_cancer at {server}\n" in done.stderr and "secret" not in done.stderr
    (noted,) = list_noted(server, "breast_cancer")
    assert noted["name"] == Path(result["run"]).name and noted["status"] == "FINISHED"
    assert noted["tags"] | {"verdict": "promoted", "model": result["model"]} == noted["tags"]
    assert noted["metrics"].items() >= {name.replace("/", "_"): value for name, value in result["metrics"].items()}.items()
    assert noted["params"].items() >= {"estimator": "logistic_regression", "data": "breast_cancer", "holdout": "0.2"}.items()
    assert {"card.html", "contract.json"} <= set(noted["files"])
    page = requests.get(f"{server}/get-artifact", {"path": "card.html", "run_uuid": noted["id"]}, timeout=30)
    assert page.content == Path(result["run"], "card.html").read_bytes()

    project.replace_cells("eda.ipynb", "from modeler import ModelerError\nraise ModelerError('told to fail')")
    done = typed(*QUICK, kernels=True)
    assert done.returncode == 1, done.stderr
    failed = list_noted(server, "breast_cancer")[-1]
    assert failed["status"] == "FAILED" and failed["tags"]["verdict"] == "failed"
    assert "told to fail" in failed["tags"]["mlflow.note.content"]


@pytest.mark.slow
@needs_server
def test_combinations_of_a_sweep_are_noted_and_the_hold_out_of_the_best_alone(server, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking.ADDRESS, server)
    sweep, told, said = tmp_path / "20260101-000000-1", [{"train.ipynb": {"seed": seed}} for seed in range(4)], []
    entries = [
        {"score": 0.8, "spread": 0.01, "seconds": 2.0, "run": str(sweep / "01"), "error": None},
        {"score": None, "spread": None, "seconds": 1.0, "run": str(sweep / "02"), "error": "train.ipynb, cell [3] failed"},
        {"score": None, "spread": None, "seconds": None, "run": None, "error": None},
        {"score": 0.7, "spread": 0.02, "seconds": 1.0, "run": str(sweep / "04"), "error": None},
    ]
    for number, names in {"01": tracking.ARTIFACTS, "02": ["eda.ipynb", "contract.json"], "04": []}.items():
        (sweep / number).mkdir(parents=True)
        for name in [*names, "metrics.json"]:
            (sweep / number / name).write_text("{}")
    metrics = {"roc_auc": 0.7, "recall:Größe (µm) / m": 0.5, "r2": None}
    best = {"run": str(sweep / "01"), "verdict": "rejected", "candidate": "swept:1", "model": None, "reasons": ["too bad", "and late"]}
    track_sweep("swept", told, entries, best | {"metrics": metrics}, said.append)
    assert said == [f"mlflow     3 runs in the experiment swept at {server}"]
    first, second, fourth = list_noted(server, "swept")
    assert first["params"] == {"seed": "0"} and second["params"] == {"seed": "1"} and first["name"] == f"{sweep.name}/01"
    scores = {"cv mean": 0.8, "cv std": 0.01, "seconds": 2.0, "roc_auc": 0.7, "recall:Größe _µm_ _ m": 0.5}
    assert first["metrics"] == scores and second["metrics"] == {"seconds": 1.0}
    assert first["tags"]["verdict"] == "rejected" and first["tags"]["mlflow.note.content"] == "too bad\nand late"
    assert fourth["tags"]["verdict"] == "ranked" and fourth["metrics"] == {"cv mean": 0.7, "cv std": 0.02, "seconds": 1.0}
    assert first["status"] == "FINISHED" and second["status"] == "FAILED" and second["tags"]["verdict"] == "failed"
    assert first["files"] == sorted(tracking.ARTIFACTS) and second["files"] == ["contract.json", "eda.ipynb"]


@pytest.mark.slow
@needs_server
def test_what_the_server_refuses_is_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking.ADDRESS, server)
    said, run = [], describe_run(PARAMETERS, str(tmp_path), 1.0)
    track_runs("refused", [run | {"metrics": {"(": 1.0}}], said.append)
    (line,) = said
    assert line.startswith(f"mlflow     not all is noted at {server}: RestException: INVALID_PARAMETER_VALUE") and "\n" not in line


def test_nothing_is_said_or_done_without_an_address(monkeypatch, tmp_path):
    monkeypatch.delenv(tracking.ADDRESS, raising=False)
    track_runs("made", [describe_run(PARAMETERS, str(tmp_path), 1.0)], pytest.fail)


def test_missing_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv(tracking.ADDRESS, "http://127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = []
    track_runs("made", [describe_run(PARAMETERS, str(tmp_path), 1.0)], said.append)
    assert said == ["mlflow     nothing is noted at http://127.0.0.1:9: MLflow is not installed; `pip install mlflow-skinny` does it"]


def test_run_is_described_without_what_nobody_told(tmp_path):
    told = describe_run(PARAMETERS, str(tmp_path), 1.0)
    assert told["parameters"] == {"data": "a.csv", "seed": "1", "columns": "x" * 6000}
    assert told["tags"] == {} and told["files"] == [] and not told["failed"]


@pytest.fixture
def away():
    """Addresses of servers that are away, each in another way, with what is said of them."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(502)
            self.end_headers()

        def log_message(self, *_):
            pass

    proxy = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield {
            f"http://127.0.0.1:{find_free_port()}": "no connection",
            "http://nowhere.invalid:5000": "no connection",
            f"http://127.0.0.1:{proxy.server_port}": "it answers 502 Bad Gateway",
            f"http://127.0.0.1:{silent.getsockname()[1]}": "no answer within 4 s",
            "http://": "InvalidURL",
        }
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.medium
def test_server_that_is_away_costs_one_line_and_five_seconds_at_most(away, tmp_path, monkeypatch):
    for address, told in away.items():
        monkeypatch.setenv(tracking.ADDRESS, address)
        said, started = [], time.monotonic()
        track_runs("made", [describe_run(PARAMETERS, str(tmp_path), 1.0)] * 3, said.append)
        assert said == [f"mlflow     nothing is noted at {address}: {told}"]
        assert time.monotonic() - started < 5
