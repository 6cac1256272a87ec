"""Each piece of a library's inside that we rely on, by name: what a new version breaks is found here first."""

import importlib.metadata
import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from modeler import inside
from modeler.inside import STEEPEST
from modeler.model.graph import import_runtime
from modeler.service.connections import LimitedConnection
from modeler.train import convert_pipeline, fit_calibrated


@pytest.mark.parametrize("library", inside.TRIED)
def test_library_is_the_version_it_was_tried_with(library):
    installed = importlib.metadata.version(library)
    assert installed == inside.TRIED[library], (
        f"{library} is {installed} and modeler/inside.py was tried with {inside.TRIED[library]}: "
        "look whether its reasons still hold, then note the new version in TRIED"
    )


def test_bentoml_service_can_be_a_class_of_ours():
    import bentoml

    service = inside.service_class()
    assert "service_class" in inspect.signature(bentoml.service).parameters, "bentoml.service lost service_class"
    assert "is_main" in inspect.signature(service.to_asgi).parameters, "_bentoml_sdk.Service.to_asgi was changed"


def test_bento_takes_arguments_of_the_command_line_before_its_own(monkeypatch):
    from bentoml._internal.service import loader
    from bentoml._internal.utils.args import set_arguments
    from pydantic import BaseModel

    class Arguments(BaseModel):
        log: str = ""
        days: int = 0
        share: float = 1

    lost = "set_arguments(bento.info.args)" in inspect.getsource(loader._load_bento)
    assert lost, "BentoML keeps the arguments of the command line now: inside.use_arguments may go"
    monkeypatch.delenv(inside.ARGUMENTS, raising=False)
    try:
        for words in (["serve", "made:1", "--arg", "log=/a=b", "--arg", "days=7"], ["-m", "worker", "--args", "{}"]):
            set_arguments({"days": 3, "share": "0.5"})
            monkeypatch.setattr(sys, "argv", ["bentoml", *words])
            assert inside.use_arguments(Arguments) == Arguments(log="/a=b", days=7, share=0.5)
    finally:
        set_arguments({})
        del inside.os.environ[inside.ARGUMENTS]


def test_bentoml_application_answers_as_ours_does():
    import bentoml
    from starlette.testclient import TestClient

    @bentoml.service
    class Made:
        @bentoml.api
        def answer(self, rows: list[dict]) -> dict:
            return {}

    with TestClient(inside.make_app(Made)) as ours:
        assert isinstance(bentoml.get_current_service(), Made.inner), "BentoML keeps a service's instance elsewhere"
    with TestClient(Made.to_asgi()) as theirs:
        for path in ("/livez", "/healthz", "/schema.json", "/static_content/swagger-ui.css", "/static_content/none"):
            answers = [client.get(path) for client in (ours, theirs)]
            assert answers[0].content == answers[1].content, f"BentoML's {path} was changed"
            assert answers[0].headers == answers[1].headers, f"BentoML's {path} was changed"


def test_bentoml_models_create_takes_a_store(tmp_path):
    with inside.create_model("made:v1", {"a": "b"}, {}, tmp_path) as folder:
        (folder / "file").write_text("x")
    written = sorted(path.name for path in (tmp_path / "made" / "v1").iterdir())
    assert written == ["file", "model.yaml"], "bentoml.models.create(_model_store=) writes elsewhere"


def test_bentoml_dockerfile_installs_uv_where_the_stand_in_is():
    from pathlib import Path

    import bentoml

    folder = Path(bentoml.__file__).parent / "_internal" / "container" / "frontend" / "dockerfile" / "templates"
    templates = "".join(path.read_text("utf-8") for path in folder.rglob("*.j2"))
    assert "uv venv" in templates and "uv --directory" in templates, "BentoML's Dockerfile calls uv in another way"
    assert subprocess.run(["sh", "-n", "-c", inside.stand_in_for_uv()]).returncode == 0


def test_circus_has_the_signals_and_the_quit_that_we_change():
    from circus.sighandler import SysHandler

    assert list(inspect.signature(SysHandler.quit).parameters) == ["self"], "circus' SysHandler.quit was changed"
    assert "SIGHUP" in {caught.name for caught in SysHandler.SIGNALS}, "circus' SysHandler.SIGNALS lacks SIGHUP"
    assert "controller" in inspect.signature(SysHandler.__init__).parameters, "circus' SysHandler has no controller"


WORKER = """
import signal, time
time.sleep(0.5)
signal.signal(signal.SIGHUP, lambda *_: print("caught"))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
"""
PARENT = """
import os, signal, sys
from circus.process import Process
from modeler.inside import forward_hangup
forward_hangup()
worker = Process("worker", 1, sys.executable, ["-c", sys.argv[1]], pipe_stdout=False, pipe_stderr=False)
os.kill(os.getpid(), signal.SIGHUP)
sys.exit(worker._worker.wait())
"""


@pytest.mark.medium
def test_circus_keeps_a_hangup_for_a_worker_that_cannot_catch_it_yet():
    done = subprocess.run([sys.executable, "-c", PARENT, WORKER], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"circus starts its workers in another way, and SIGHUP ends them: {done.stderr}"
    assert done.stdout == "caught\n", "a worker lost the SIGHUP it was sent while it started"


def test_uvicorn_takes_its_connections_by_one_name_and_they_have_what_ours_relies_on(monkeypatch):
    import uvicorn
    from uvicorn.protocols.http import auto

    monkeypatch.setattr(auto, "AutoHTTPProtocol", None)
    for _ in range(2):
        inside.limit_connections(LimitedConnection, lambda status, sentence: b"")
    config = uvicorn.Config(lambda: None, log_config=None)
    config.load()
    assert config.http_protocol_class is auto.AutoHTTPProtocol, "uvicorn chooses its class of connections elsewhere"
    own = auto.HttpToolsProtocol
    assert config.http_protocol_class.__bases__ == (LimitedConnection, own)
    for name in METHODS:
        assert name in vars(LimitedConnection) and name in vars(own), f"uvicorn's connections have no {name}"
        theirs, ours = (inspect.signature(vars(kind)[name]).parameters for kind in (own, LimitedConnection))
        assert len(theirs) == len(ours) or "_" in ours, f"uvicorn's {name} was changed"
    source = inspect.getsource(own)
    for piece in ("self.cycle", "self.scope", ".response_complete", ".timeout_keep_alive_task", ".disconnected"):
        assert piece in source, f"uvicorn's connections have no {piece}"


METHODS = [
    "connection_made", "connection_lost", "data_received", "_start_asgi_task", "pause_writing", "resume_writing",
    "send_400_response", "handle_websocket_upgrade",
]  # fmt: skip


def test_nbval_starts_kernels_by_a_class_in_its_module():
    import nbval.kernel

    assert "KernelManager(" in inspect.getsource(nbval.kernel.start_new_kernel), "nbval starts kernels in another way"


def test_jsonschema_does_without_the_grammar_of_uris():
    script = """
import sys, time
from modeler.inside import leave_out_grammar
leave_out_grammar()
import jsonschema, nbformat
nbformat.validate(nbformat.v4.new_notebook())
assert not [name for name in sys.modules if name.startswith("rfc3987_syntax.")]
assert "rfc3987_syntax" in open(jsonschema._format.__file__).read()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, f"jsonschema imports rfc3987_syntax in another way: {ended.stderr}"


def test_no_other_module_reaches_inside_a_library():
    for path in [*(ROOT / "modeler").rglob("*.py"), ROOT / "service.py", ROOT / "pipeline.py"]:
        if path.name != "inside.py":
            source = path.read_text("utf-8")
            for piece in ("_bentoml_sdk", "bentoml._internal", "circus", "nbval.kernel", "uvicorn.protocols", "_predictors", "_transform_isotonic"):
                told = [line for line in source.splitlines() if piece in line and "import" in line]
                assert not told, f"{path.name}: {told[0]}; what relies on an inside belongs into modeler/inside.py"


def test_histogram_boosting_splits_where_a_float32_goes_the_same_way():
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor, VotingRegressor
    from sklearn.pipeline import Pipeline

    even = pd.DataFrame({"x": np.arange(0, 60, 0.2, dtype="float32")})
    between = pd.DataFrame({"x": np.arange(0.1, 60, 0.2).round(1).astype("float32")})
    y = np.random.default_rng(0).normal(size=len(even))
    for model in (HistGradientBoostingRegressor(max_iter=20), VotingRegressor([("a", HistGradientBoostingRegressor())])):
        columns = ColumnTransformer([("numbers", "passthrough", ["x"])])
        pipeline = Pipeline([("columns", columns), ("model", model)]).fit(even, y)
        session = import_runtime().InferenceSession(convert_pipeline(pipeline, even))
        answers = session.run(None, {"numbers": between.to_numpy()})[0].ravel()
        assert answers == pytest.approx(pipeline.predict(between), abs=1e-6), (
            "scikit-learn's HistGradientBoosting keeps its trees elsewhere than in _predictors"
        )


def test_histogram_boosting_within_calibration_splits_there_too():
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import Pipeline

    even = pd.DataFrame({"x": np.arange(0, 60, 0.2, dtype="float32")})
    between = pd.DataFrame({"x": np.arange(0.1, 60, 0.2).round(1).astype("float32")})
    y = np.random.default_rng(0).integers(2, size=len(even))
    columns = ColumnTransformer([("numbers", "passthrough", ["x"])])
    pipeline = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=20))])
    for method in ("sigmoid", "isotonic"):
        fitted = fit_calibrated(pipeline, method, even, y, StratifiedKFold(3))
        session = import_runtime().InferenceSession(convert_pipeline(fitted, even))
        answers = session.run(None, {"numbers": between.to_numpy()})[-1]
        assert answers == pytest.approx(fitted.predict_proba(between), abs=5e-6), (
            "scikit-learn's CalibratedClassifierCV keeps its classifier elsewhere than in calibrated_classifiers_[0].estimator"
        )


def test_isotonic_steps_are_slopes_and_skl2onnx_converts_them_as_scikit_learn_answers_them():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline

    X = pd.DataFrame({"x": np.linspace(-1, 1, 300, dtype="float32")})
    y = (X["x"] > 0.2).to_numpy() ^ (np.arange(300) % 11 == 0)  # a step from 0.09 to 0.91
    pipeline = Pipeline([("columns", ColumnTransformer([("numbers", "passthrough", ["x"])])), ("model", LogisticRegression())])
    fitted = fit_calibrated(pipeline, "isotonic", X, y, KFold(3, shuffle=True, random_state=0))
    (curve,) = fitted[-1].calibrated_classifiers_[0].calibrators
    rises = np.diff(curve.y_thresholds_) / np.diff(curve.X_thresholds_)
    assert 15 < rises.max() <= STEEPEST * 1.001 and rises.min() >= 0 and np.ptp(curve.y_thresholds_) > 0.8
    dense = pd.DataFrame({"x": np.linspace(-1, 1, 5000, dtype="float32")})
    session = import_runtime().InferenceSession(convert_pipeline(fitted, X))
    answers = session.run(None, {"numbers": dense.to_numpy()})[-1]
    assert answers == pytest.approx(fitted.predict_proba(dense), abs=5e-6), (
        "skl2onnx converts isotonic regression elsewhere than in calibrated_classifier_cv._transform_isotonic"
    )
