"""Explanations: Shapley values of each kind of answer, the same for the same row, and what /explain takes and refuses."""

import asyncio
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import jsonschema
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from test_front import ask, part
from test_graph import CLASSIFIERS, REGRESSORS, make_table

from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records
from modeler.model.answers import decode_answers
from modeler.model.contract import class_key, used_features, write_json
from modeler.model.stored import StoredModel, content_version
from modeler.service.front import Front
from modeler.service.openapi import describe_api
from modeler.service.predictor import Predictor
from modeler.service.telemetry import Metrics
from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.trace import trace_columns

OWN = {"rate": lambda c: c["mean area (mm²)"] / (c["class"] + 1)}


@pytest.fixture(scope="module", params=["two", "several", "numbers", "booleans", "values"])
def predictor(request, tmp_path_factory):
    """A model of numbers, booleans, categories and a date with gaps, and of a column of its own."""
    return make_predictor(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return make_predictor(tmp_path_factory.mktemp("model"), "two")


def make_predictor(folder, kind: str) -> Predictor:
    table = make_table(kind)
    sold = pd.Series(pd.date_range("2024-01-01", periods=400)).where(np.arange(400) % 9 > 0)
    table.frame.insert(0, "sold", sold)
    contract = derive_contract(table, table.frame, min_association=0, holdout=0.2)
    X, y = encode_table(table.frame, contract), np.array(table.frame["y"].tolist())
    steps, _ = trace_columns(OWN, X, contract)
    columns = ColumnTransformer([
        ("numbers", SimpleImputer(strategy="median"), [*(name for name in X if name != "1st colour"), "rate"]),
        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["1st colour"]),
    ])  # fmt: skip
    model = (REGRESSORS if kind == "values" else CLASSIFIERS)["gradient_boosting"]
    pipeline = Pipeline([*steps, ("columns", columns), ("model", model)]).fit(X, y)
    (folder / "model.onnx").write_bytes(convert_pipeline(pipeline, X))
    write_json(folder / "contract.json", contract)
    output = pipeline.predict(X) if kind == "values" else pipeline.predict_proba(X)
    golden = {"rows": raw_records(table.frame.drop(columns="y"))[:32], "answers": decode_answers(output, contract)[:32]}
    write_json(folder / "golden.json", golden)
    return Predictor(StoredModel(f"made:{content_version(folder)}", folder), 1000)


def read_rows(predictor) -> list[dict]:
    return predictor._model.read("golden.json")["rows"]


def explain(predictor, rows) -> list[dict]:
    return json.loads(predictor.explain(json.dumps(rows).encode()).body)["predictions"]


def find_explained(given: dict) -> float:
    return given["value"] if "value" in given else given["probabilities"][given["explained"]]


@pytest.mark.medium
def test_contributions_are_the_exact_values_of_shap(predictor, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling would take longer than the test
    import shap

    golden, explained = read_rows(predictor), explain(predictor, read_rows(predictor)[:4])
    names = [feature["name"] for feature in used_features(predictor.contract)]
    background = np.repeat(np.arange(len(golden))[:, None], len(names), axis=1)  # which golden row a value comes from

    def answer(codes):
        rows = [{name: golden[int(code)][name] for name, code in zip(names, row)} for row in codes]
        return [find_explained(one | {"explained": given["explained"]}) for one in predictor.graph.answer(rows)]

    values = [find_explained(given) for given in explain(predictor, golden)]
    for place, given in enumerate(explained):
        exact = shap.explainers.Exact(answer, shap.maskers.Independent(background))(background[place : place + 1])
        assert list(given["contributions"]) == names
        assert given["base"] == pytest.approx(exact.base_values[0], abs=1e-6)
        reach = 0.01 * (1 if "label" in given else np.ptp(values))
        assert [*given["contributions"].values()] == pytest.approx(exact.values[0].tolist(), abs=reach)


def test_answers_are_those_of_predict_and_base_and_contributions_add_up_to_them(predictor):
    rows = read_rows(predictor)
    rows += [rows[0] | {"class": 1e6, "1st colour": "mauve", "sold": "1999-01-01"}]
    plain = json.loads(predictor.answer(json.dumps(rows).encode()).body)["predictions"]
    target = predictor.contract["target"]
    for ours, theirs in zip(explain(predictor, rows), plain, strict=True):
        assert abs(ours["base"] + sum(ours["contributions"].values()) - find_explained(ours)) < 1e-9
        assert ours["explained"] == class_key(target.get("positive", theirs.get("label", "y")))
        assert theirs == {name: ours[name] for name in theirs}
    assert len(ours["warnings"]) == 3


def test_column_that_changes_nothing_contributes_nothing(two):
    rows = [row | {"class": 4} for row in read_rows(two)]
    two = Predictor(two._model, 1000)
    two._model = SimpleNamespace(tag=two.tag, read=lambda name: {"rows": rows})
    assert {given["contributions"]["class"] for given in explain(two, rows)} == {0}


def test_same_row_has_the_same_explanation_in_every_request_and_process(two):
    rows = read_rows(two)[:3]
    together, turned = explain(two, rows), explain(two, [dict(reversed(row.items())) for row in rows[::-1]])
    script = (
        "import json, sys; from pathlib import Path; from modeler.model.stored import StoredModel\n"
        "from modeler.service.predictor import Predictor\n"
        "predictor = Predictor(StoredModel(sys.argv[1], Path(sys.argv[2])), 1000)\n"
        "print(predictor.explain(sys.argv[3].encode()).body.decode())"
    )
    words = [sys.executable, "-c", script, two.tag, str(two._model.path), json.dumps(rows[1])]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    (alone,) = json.loads(done.stdout)["predictions"]
    for given, column in ((turned[1], 1), (alone, 1), (turned[0], 2)):
        assert given["contributions"] == pytest.approx(together[column]["contributions"], abs=1e-6)
    other = explain(two, [rows[1] | {"flag?": not rows[1]["flag?"]}])[0]
    assert other["contributions"] != together[1]["contributions"]


def test_body_is_taken_and_refused_as_predict_does(two):
    for body in (b"", b"[{}]", b'[{"sold": "2025-02-30"}]', json.dumps([read_rows(two)[0] | {"colour": 1}]).encode()):
        answers = [ask(two, [part(body)], path=path) for path in ("/predict", "/explain")]
        assert answers[0][0] == answers[1][0] == 400 and answers[0][1] == answers[1][1]
    body = json.dumps(read_rows(two)).encode()
    status, answer, metrics = ask(two, [part(body)], path="/explain")
    assert status == 200 and len(answer["predictions"]) == 32
    assert 'endpoint="/explain",http_response_code="200"' in metrics
    counted = [line for line in metrics.splitlines() if line.startswith("bentoml_service_predictions_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 32
    status, answer, _ = ask(two, [part(json.dumps(read_rows(two) * 4).encode())], path="/explain")
    assert status == 413 and answer["error"] == "128 rows are too many; send at most 100 a request"


def test_each_answered_row_is_counted_under_its_label_or_none(predictor):
    metrics = ask(predictor, [part(json.dumps(read_rows(predictor)).encode())])[2]
    counted = [line for line in metrics.splitlines() if line.startswith("bentoml_service_predictions_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 32
    assert ('label=""' in counted[0]) == (not predictor.contract["target"]["classes"])


def test_row_whose_mixes_have_no_finite_answer_is_named(two, monkeypatch):
    explainer = Predictor(two._model, 1000)
    run = explainer.graph.run
    explainer._explainer  # made before, so that the golden rows have answers
    monkeypatch.setattr(explainer.graph, "run", lambda inputs: run(inputs) * (np.nan if len(inputs["numbers"]) > 2 else 1))
    status, answer, _ = ask(explainer, [part(json.dumps(read_rows(two)[:2]).encode())], path="/explain")
    assert status == 400 and answer["error"] == "2 of 2 rows have no finite explanation"
    assert [fault["row"] for fault in answer["detail"]] == [0, 1]


def test_small_requests_are_answered_while_an_explanation_is_made(two, monkeypatch):
    started, goes_on = threading.Event(), threading.Event()

    def wait(body):
        started.set()
        assert goes_on.wait(10)
        return explain_at_once(body)

    explain_at_once = two.explain
    monkeypatch.setattr(two, "explain", wait)
    app = Front(None, lambda: SimpleNamespace(predictor=two), Metrics("made", "1"), 1_000_000, 10)
    body = json.dumps(read_rows(two)[:1]).encode()

    async def post(path):
        sent = []

        async def receive():
            return part(body)

        async def send(message):
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
        return sent[0]["status"]

    async def both():
        slow = asyncio.create_task(post("/explain"))
        while not started.is_set():
            await asyncio.sleep(0.01)
        assert await post("/predict") == 200 and not slow.done()
        goes_on.set()
        assert await slow == 200

    asyncio.run(both())


def test_openapi_describes_the_answer(predictor):
    document = describe_api(predictor.contract, predictor.example, 1000, 10**6)
    body = json.loads(predictor.explain(json.dumps(read_rows(predictor)[:3]).encode()).body)
    schema = {"$ref": "#/components/schemas/Explanations", "components": document["components"]}
    jsonschema.validate(body, schema)
    del body["predictions"][0]["contributions"]["class"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema)
    assert "within 1e-6" in document["paths"]["/explain"]["post"]["description"]
