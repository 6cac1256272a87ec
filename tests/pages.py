"""Models with categories, booleans, nulls and dates behind one server, each below a path as behind a proxy."""

import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from types import MappingProxyType, SimpleNamespace

import bentoml
import numpy as np
import pandas as pd
import uvicorn
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records
from modeler.data.tables import Table
from modeler.gate.card import write_card
from modeler.model.answers import decode_answers
from modeler.model.contract import write_json
from modeler.model.stored import StoredModel, content_version
from modeler.service.access import Access
from modeler.service.front import Front
from modeler.service.predictor import Predictor
from modeler.service.telemetry import Metrics
from modeler.ship.run import find_free_port
from modeler.train.confidence import measure_intervals
from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.metrics import score_answers

MARKUP, PROTOTYPE, LONG = "<script>alert(1)</script>", "__proto__", "w" * 500
ROWS = 300
FORMATS = {"values": {"area": "1.234,5 m²", "garden": ["nein", "ja"]}}  # how the data write these columns


def make_frame(kind: str) -> pd.DataFrame:
    """Numbers, booleans, categories, a day and a moment, some with gaps; of several classes also names that hurt."""
    rng = np.random.default_rng(0)
    gaps = rng.random(ROWS) < 0.1
    frame = pd.DataFrame({
        "area": rng.normal(500, 200, ROWS).round(1),
        "rooms": rng.integers(1, 9, ROWS),
        "garden": rng.random(ROWS) > 0.5,
        "heated": pd.Series(rng.random(ROWS) > 0.5).astype(object).where(~gaps, None),
        "colour": pd.Series(rng.choice(["red", "blue", "sea green"], ROWS)).astype(object).where(~gaps, None),
        "sold": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, ROWS), "D"),
        "seen": pd.Series(pd.Timestamp("2024-01-01T08:30") + pd.to_timedelta(rng.integers(0, 10**6, ROWS), "min")).where(~gaps),
        "age": pd.Series(rng.normal(40, 9, ROWS).round(2)).where(~gaps),
    })  # fmt: skip
    if kind == "several":
        frame = frame.assign(**{name: rng.normal(0, 1, ROWS).round(3) for name in (MARKUP, PROTOTYPE, LONG)})
    signal = frame["area"] / 200 + frame["rooms"] / 3 + frame["garden"] + rng.normal(scale=0.3, size=ROWS)
    labels = {"two": ["no", "yes"], "several": ["low", "mid", MARKUP, "top"]}.get(kind)
    target = (
        signal.round(3)
        if labels is None
        else np.array(labels, dtype=object)[pd.qcut(signal, len(labels), labels=False)]
    )
    return frame.assign(price=target)


def store_model(folder, kind: str, change=lambda frame: frame) -> StoredModel:
    """A model as the store holds it."""
    folder.mkdir()
    table = Table(kind, change(make_frame(kind)), "price", formats=FORMATS.get(kind, {}))
    contract = derive_contract(table, table.frame, min_association=0, holdout=0.2)
    X = encode_table(table.frame, contract)
    texts = [name for name in X if X[name].dtype.kind not in "fiub"]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = SimpleImputer(strategy="median")
    columns = ColumnTransformer(
        [("numbers", numbers, [name for name in X if name not in texts]), ("texts", encoder, texts)]
    )
    forest = (RandomForestRegressor if kind == "values" else RandomForestClassifier)(20, random_state=0)
    pipeline = Pipeline([("columns", columns), ("model", forest)]).fit(X, table.frame["price"])
    output = pipeline.predict(X) if kind == "values" else pipeline.predict_proba(X)
    (folder / "model.onnx").write_bytes(convert_pipeline(pipeline, X))
    rows = raw_records(table.frame.drop(columns="price"))
    write_json(folder / "contract.json", contract)
    write_json(folder / "golden.json", {"rows": rows[:32], "answers": decode_answers(output[:32], contract)})
    answers, truth = decode_answers(output, contract), table.frame["price"]
    write_json(folder / "metrics.json", score_answers(answers, truth, contract["target"]))
    tell_origin(folder, table, measure_intervals(answers, truth, contract["target"]))
    tag = f"{kind}:{content_version(folder)}"
    write_card(folder, {"when": "2026-11-25T19:18:31+00:00", "user": "ada", "run": None}, tag, served=True)
    return StoredModel(tag, folder)


def tell_origin(folder, table: Table, intervals: dict) -> None:
    """What the pipeline would tell of a model that no notebook trained, for its card."""
    data = {"name": table.name, "rows": ROWS, "columns": table.frame.shape[1], "sha256": "0" * 64}
    made = {"python": "3.11", "platform": "Linux", "seed": 0, "git": None, "packages": {"skops": None}}
    settings = {"eda.ipynb": {"target": "price", "leave_out": ""}, "train.ipynb": {"seed": 0}}
    made |= {"data": data, "holdout": {"rows": 60, "rule": "hash of the row"}, "parameters": settings}
    write_json(folder / "provenance.json", made)
    warning = {"kind": "leak", "columns": [MARKUP], "message": f"{MARKUP} may tell the target"}
    sentence = "its score on the raw held-out rows is clearly above that of a dummy, " * 3
    check = {"name": "better than a dummy", "passed": True, "sentence": sentence}
    verdict = {"verdict": "promoted", "reasons": [], "warnings": [warning], "checks": [check]}
    write_json(folder / "verdict.json", verdict | {"rows_without_target": 3, "intervals": intervals})


@contextmanager
def serve(predictors: dict[str, Predictor], accesses: Mapping[str, Access] = MappingProxyType({})):
    """The address of a server in a thread, and the services by name, whose predictors may be exchanged."""
    folder = f"{bentoml.__path__[0]}/_internal/server/static_content"
    files = Starlette(routes=[Mount("/static_content", StaticFiles(directory=folder))])
    services = {name: SimpleNamespace(predictor=predictor, fault="") for name, predictor in predictors.items()}
    fronts = {
        name: Front(files, lambda service=service: service, Metrics(name, "1"), 8 * 2**20, 10, access=accesses.get(name))
        for name, service in services.items()
    }

    async def proxy(scope, receive, send):
        _, name, path = scope["path"].split("/", 2)
        await fronts[name](scope | {"path": f"/{path}", "raw_path": f"/{path}".encode()}, receive, send)

    port = find_free_port()
    server = uvicorn.Server(uvicorn.Config(proxy, port=port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", services
    server.should_exit = True
    thread.join(10)
