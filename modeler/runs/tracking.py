"""Runs as MLflow's server shows them, for whoever has one. Whatever happens there, the run itself goes on.

A process of its own speaks to the server, so that it can be ended, and what MLflow prints, sets and imports stays there.
"""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from modeler import ModelerError
from modeler.runs.folders import RANKED
from modeler.runs.kernels import prepare_child

ADDRESS, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"  # environment variables
AWAY_SECONDS = 4  # in which a server must say that it is there
REQUEST_SECONDS, RUN_SECONDS = 10, 30  # that one request, and one run with all its files, may take
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
ARTIFACTS = ["eda.html", "train.html", "card.html", "contract.json"]
FAULT = re.compile(r"^[\w.]*\b(\w*(?:Error|Exception): .+)", re.M)  # of a traceback
LONGEST = 6000  # characters of a parameter
MEAN, SPREAD = "cv mean", "cv std"  # of the score on the training rows


def track_retrain(name: str, parameters: Mapping[str, Mapping], result: Mapping, say: Callable[[str], None]) -> None:
    """Note a retrain, whose `result` is what `--json` prints, as a run of the experiment `name`."""
    track_runs(name, [describe_run(parameters, result["run"], result["seconds"], result=result)], say)


@contextmanager
def track_failure(
    name: str, parameters: Mapping[str, Mapping], run: Path, say: Callable[[str], None]
) -> Iterator[None]:
    """Note a retrain that comes to no verdict as a run that failed."""
    started = time.monotonic()
    try:
        yield
    except ModelerError as error:
        track_runs(name, [describe_run(parameters, str(run), time.monotonic() - started, error=str(error))], say)
        raise


def track_sweep(
    name: str,
    told: Iterable[Mapping],
    combinations: Iterable[Mapping],
    result: Mapping | None,
    say: Callable[[str], None],
) -> None:
    """Note every combination that was executed as a run of the experiment `name`.

    `told` has the parameters of each by notebook, `combinations` what came of each; `result` is what `--json` prints of the best,
    the only one that was judged, or None. Scores on the hold-out are those of the best alone, as choosing by them would spend it.
    """
    runs = []
    for parameters, entry in zip(told, combinations):
        if entry["run"]:
            scores = {} if entry["score"] is None else {MEAN: entry["score"], SPREAD: entry["spread"]}
            judged = result if result and result["run"] == entry["run"] else None
            sweep = {"sweep": Path(entry["run"]).parent.name}
            runs.append(describe_run(parameters, entry["run"], entry["seconds"], scores, entry["error"], judged, sweep))
    track_runs(name, runs, say)


def describe_run(
    parameters: Mapping[str, Mapping],
    folder: str,
    seconds: float,
    scores: Mapping[str, float] | None = None,
    error: str | None = None,
    result: Mapping | None = None,
    tags: Mapping[str, str] | None = None,
) -> dict:
    """What is noted of a run. One without a verdict, such as of a sweep, has the executed notebooks in place of the pages."""
    run, result = Path(folder), result or {}
    verdict = result.get("verdict") or ("failed" if error else RANKED if scores else None)
    notes = {"model": result.get("candidate"), "champion": result.get("model"), "mlflow.note.content": error}
    notes |= {"mlflow.note.content": "\n".join(result["reasons"])} if result.get("reasons") else {}
    files = [*ARTIFACTS, *(() if result else ("eda.ipynb", "train.ipynb"))]
    told = {name: value for one in parameters.values() for name, value in one.items() if name != "out"}
    measured = (scores or {}) | (result.get("metrics") or {}) | {"seconds": seconds}
    return {
        "name": run.name if "sweep" not in (tags or {}) else f"{run.parent.name}/{run.name}",
        "failed": bool(error),
        "seconds": seconds,
        "parameters": {name: str(value)[:LONGEST] for name, value in told.items() if str(value)},
        "metrics": {
            re.sub(r"[^\w.\- :]", "_", name): float(value)
            for name, value in measured.items()
            if isinstance(value, int | float) and math.isfinite(value)
        },
        "tags": {name: value for name, value in ({"verdict": verdict} | notes | dict(tags or {})).items() if value},
        "files": [str(run / name) for name in files if (run / name).is_file()],
    }


def track_runs(name: str, runs: list[dict], say: Callable[[str], None]) -> None:
    """Note runs at the server that MLFLOW_TRACKING_URI names, if it names one; one line of warning where that fails."""
    address = os.environ.get(ADDRESS, "").strip()
    if not address or not runs:
        return
    where, experiment = _hide_password(address), os.environ.get(EXPERIMENT) or name
    if importlib.util.find_spec("mlflow") is None:
        say(f"mlflow     nothing is noted at {where}: MLflow is not installed; `pip install mlflow-skinny` does it")
        return
    if fault := find_fault(address):
        say(f"mlflow     nothing is noted at {where}: {fault}")
        return
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps({"experiment": experiment, "runs": runs}),
            env=SETTINGS | os.environ,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS * (1 + len(runs)),
            preexec_fn=prepare_child(),
        )
        told = FAULT.findall(done.stderr) or [f"its process ended with {done.returncode}"]
        fault = told[-1][:200] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = f"{type(error).__name__}"
    noted = f"{len(runs)} run{'s' if len(runs) > 1 else ''} in the experiment {experiment} at {where}"
    say(f"mlflow     not all is noted at {where}: {fault}" if fault else f"mlflow     {noted}")


def find_fault(address: str) -> str | None:
    """Why nobody answers at an address, found within AWAY_SECONDS; None where somebody does, or it is none of HTTP."""
    if urlsplit(address).scheme not in ("http", "https"):
        return None
    found = [f"no answer within {AWAY_SECONDS} s"]

    def ask():
        import requests

        try:
            health = f"{address.rstrip('/')}/health"
            with requests.get(health, timeout=AWAY_SECONDS, stream=True, allow_redirects=False) as answer:
                found[0] = f"it answers {answer.status_code} {answer.reason}" if answer.status_code >= 500 else None
        except requests.exceptions.SSLError:
            found[0] = None  # somebody is there, and MLflow has settings of its own for certificates
        except requests.exceptions.ConnectionError:
            found[0] = "no connection"
        except (requests.RequestException, ValueError) as error:
            found[0] = found[0] if isinstance(error, requests.Timeout) else f"{type(error).__name__}"

    asking = threading.Thread(target=ask, daemon=True)  # a name that is looked up in vain cannot be interrupted
    asking.start()
    asking.join(AWAY_SECONDS)
    return found[0]


def _hide_password(address: str) -> str:
    """An address for a message, without a user's name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", address).partition("?")[0]


def _note_all(experiment: str, runs: list[dict]) -> None:
    """Note runs by MLflow's client, in the process that may take its time."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient()
    known = client.get_experiment_by_name(experiment)
    identity = known.experiment_id if known else client.create_experiment(experiment)
    now = int(time.time() * 1000)
    for told in runs:
        run = client.create_run(identity, now - int(told["seconds"] * 1000), run_name=told["name"]).info.run_id
        metrics = [Metric(name, value, now, 0) for name, value in told["metrics"].items()]
        params = [Param(name, value) for name, value in told["parameters"].items()]
        client.log_batch(run, metrics, params, [RunTag(name, value) for name, value in told["tags"].items()])
        for file in told["files"]:
            client.log_artifact(run, file)
        client.set_terminated(run, "FAILED" if told["failed"] else "FINISHED", now)


if __name__ == "__main__":
    _note_all(**json.load(sys.stdin))
