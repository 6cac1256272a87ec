"""The graph: the same answers as the estimator, the same bytes in every process, ties decided alike."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, RobustScaler

from modeler import ModelerError
from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records
from modeler.data.tables import Table
from modeler.model.answers import SAME_ANSWER, decode_answers, describe_differences
from modeler.model.contract import used_features
from modeler.model.graph import Graph, encode_columns
from modeler.train.estimator import convert_pipeline, encode_table

CLASSIFIERS = {
    "logistic_regression": linear_model.LogisticRegression(max_iter=1000),
    "random_forest": ensemble.RandomForestClassifier(20, random_state=0),
    "extra_trees": ensemble.ExtraTreesClassifier(20, random_state=0),
    "gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
    "hist_gradient_boosting": ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
}
REGRESSORS = {
    "logistic_regression": linear_model.Ridge(),
    "random_forest": ensemble.RandomForestRegressor(20, random_state=0),
    "extra_trees": ensemble.ExtraTreesRegressor(20, random_state=0),
    "gradient_boosting": ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
    "hist_gradient_boosting": ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0),
}


def make_table(kind: str, rows: int = 400) -> Table:
    """Numbers, booleans and categories with gaps and odd names."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "mean area (mm²)": pd.Series(rng.normal(500, 200, rows)).where(rng.random(rows) > 0.1),
        "class": rng.integers(0, 9, rows),
        "flag?": pd.Series(rng.random(rows) > 0.5).astype(object).where(rng.random(rows) > 0.1, None),
        "1st colour": pd.Series(rng.choice(["red", "blue", "sea green"], rows)).astype(object).where(rng.random(rows) > 0.1, None),
    })  # fmt: skip
    signal = frame["mean area (mm²)"].fillna(500) / 200 + frame["class"] / 3 + (frame["1st colour"] == "red") * 2
    signal += rng.normal(scale=0.5, size=rows)
    labels = {"two": ["no", "yes"], "several": ["low", "mid", "top"], "numbers": [1, 2, 3], "booleans": [False, True]}
    y = (
        signal
        if kind == "values"
        else pd.Series(np.array(labels[kind], dtype=object)[pd.qcut(signal, len(labels[kind]), labels=False)])
    )
    return Table("made", frame.assign(y=y.infer_objects()), "y")


def fit(table: Table, estimator, scaled=False):
    contract = derive_contract(table, table.frame, min_association=0, holdout=0.2)
    numbers = [f["name"] for f in used_features(contract) if f["type"] != "category"]
    categories = [f["name"] for f in used_features(contract) if f["type"] == "category"]
    impute = SimpleImputer(strategy="median")
    columns = ColumnTransformer([
        ("numbers", make_pipeline(impute, RobustScaler()) if scaled else impute, numbers),
        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    ])  # fmt: skip
    X, y = encode_table(table.frame, contract), np.array(table.frame["y"].tolist())
    return Pipeline([("columns", columns), ("model", estimator)]).fit(X, y), X, contract


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two", "several", "numbers", "booleans", "values"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_graph_answers_raw_rows_like_the_estimator(name, kind):
    table = make_table(kind)
    pipeline, X, contract = fit(
        table, (REGRESSORS if kind == "values" else CLASSIFIERS)[name], name == "logistic_regression"
    )
    graph = Graph(convert_pipeline(pipeline, X), contract)
    rows = raw_records(table.frame.drop(columns="y"))
    rows += [rows[0] | {"1st colour": "never seen", "mean area (mm²)": None}]
    unseen = encode_table(pd.DataFrame(rows), contract)
    expected = decode_answers(
        pipeline.predict(unseen) if kind == "values" else pipeline.predict_proba(unseen), contract
    )
    assert list(describe_differences(graph.answer(rows), expected, contract, SAME_ANSWER)) == []
    assert (
        list(describe_differences([graph.answer([row])[0] for row in rows[:20]], expected[:20], contract, SAME_ANSWER))
        == []
    )


def test_encoding_reads_frames_and_records_alike():
    table = make_table("two")
    contract = derive_contract(table, table.frame, min_association=0, holdout=0.2)
    records = raw_records(table.frame)
    columns = {f["name"]: [row[f["name"]] for row in records] for f in used_features(contract)}
    from_frame, from_records = encode_columns(table.frame, contract), encode_columns(columns, contract)
    assert from_frame["numbers"].dtype == np.float32 and from_frame["numbers"].shape == (400, 3)
    assert np.array_equal(from_frame["numbers"], from_records["numbers"], equal_nan=True)
    assert np.array_equal(from_frame["categories"], from_records["categories"])
    assert "(missing)" in from_frame["categories"]
    pipeline, X, contract = fit(table, CLASSIFIERS["logistic_regression"])
    by_the_graph = Graph(convert_pipeline(pipeline, X), contract).encode(records)
    assert np.array_equal(by_the_graph["numbers"], from_frame["numbers"], equal_nan=True)
    assert np.array_equal(by_the_graph["categories"], from_frame["categories"])


def hash_graphs() -> list[str]:
    """The SHA-256 of graphs that are made here; tests/test_boosters.py holds that other processes make the same."""
    fitted = [fit(make_table("several"), CLASSIFIERS[name])[:2] for name in ("gradient_boosting", "random_forest")]
    return [hashlib.sha256(convert_pipeline(pipeline, X)).hexdigest() for pipeline, X in fitted]


def test_pipeline_that_has_no_converter_is_refused_by_name():
    table = make_table("two")
    pipeline, X, _ = fit(table, CLASSIFIERS["logistic_regression"], scaled=True)
    pipeline.steps.insert(1, ("odd", FunctionTransformer(np.sign)))
    with pytest.raises(
        ModelerError, match=r"Pipeline \(ColumnTransformer, FunctionTransformer, LogisticRegression\) cannot be"
    ):
        convert_pipeline(pipeline, X)


def test_columns_may_be_selected_by_position_too():
    table = make_table("two")
    pipeline, X, contract = fit(table, CLASSIFIERS["random_forest"])
    columns = pipeline.named_steps["columns"]
    columns.set_params(transformers=[("numbers", SimpleImputer(), slice(0, 2)), ("rest", SimpleImputer(), [2])])
    pipeline.fit(X, np.array(table.frame["y"].tolist()))
    graph = Graph(convert_pipeline(pipeline, X), contract)
    expected = decode_answers(pipeline.predict_proba(X), contract)
    assert list(describe_differences(graph.answer(raw_records(table.frame)), expected, contract, SAME_ANSWER)) == []


@pytest.mark.parametrize("output", [[[float("nan"), 0.5]], [[float("inf"), 0.0]]])
def test_answer_that_is_no_number_is_refused(output):
    with pytest.raises(ModelerError, match="the model answered NaN or Infinity"):
        decode_answers(np.array(output), TWO)


@pytest.mark.slow
def test_runtime_writes_down_and_sends_nothing_about_its_use(tmp_path):
    pipeline, X, _ = fit(make_table("two"), CLASSIFIERS["logistic_regression"])
    (tmp_path / "model.onnx").write_bytes(convert_pipeline(pipeline, X))
    load = "import sys; from modeler.model.graph import Graph; Graph(open(sys.argv[1], 'rb').read(), {'features': []})"
    bare = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for command in (
        load,
        load.replace("import sys;", "import sys; from modeler.commands.publish import import_gate; import_gate();"),
    ):
        words = [sys.executable, "-c", command, str(tmp_path / "model.onnx")]
        subprocess.run(words, check=True, env=bare | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()]


def test_damaged_graph_is_named():
    with pytest.raises(ModelerError, match="the graph cannot be loaded"):
        Graph(b"not a graph", {"target": {}})


TWO = {"target": {"name": "y", "classes": ["a", "b"], "positive": "b", "threshold": 0.3}}
THREE = {"target": {"name": "y", "classes": ["a", "b", "c"]}}


def test_probabilities_stay_between_0_and_1():
    (given,) = decode_answers(np.array([[-1.2e-7, 1.0000002]], dtype=np.float32), TWO)
    assert given["probabilities"] == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(
    ("contract", "probabilities", "label"),
    [
        (TWO, [0.7, 0.3], "b"),
        (TWO, [0.7000004, 0.2999996], "b"),
        (TWO, [0.71, 0.29], "a"),
        (THREE, [0.2, 0.4, 0.4], "b"),
        (THREE, [0.2, 0.3999999, 0.4000001], "b"),
        (THREE, [0.2, 0.39, 0.41], "c"),
    ],
)
def test_labels_follow_the_threshold_and_ties_are_decided_alike(contract, probabilities, label):
    (answer,) = decode_answers(np.array([probabilities]), contract)
    assert answer["label"] == label
    assert list(answer["probabilities"]) == contract["target"]["classes"]


def answer(label, *probabilities):
    return {"label": label, "probabilities": dict(zip("abc", probabilities))}


@pytest.mark.parametrize(
    ("given", "expected", "contract", "same"),
    [
        (answer("b", 0.2, 0.8), answer("b", 0.2, 0.8), TWO, True),
        (answer("b", 0.20002, 0.79998), answer("b", 0.2, 0.8), TWO, False),
        (answer("a", 0.2, 0.8), answer("b", 0.2, 0.8), TWO, False),
        (answer("a", 0.700004, 0.299996), answer("b", 0.7, 0.3), TWO, True),
        (answer("c", 0.2, 0.4, 0.4), answer("b", 0.2, 0.4, 0.4), THREE, True),
        (answer("c", 0.2, 0.5, 0.3), answer("b", 0.2, 0.5, 0.3), THREE, False),
        (answer("b", float("nan"), 0.8), answer("b", 0.2, 0.8), TWO, False),
        (answer("b", 0.8), answer("b", 0.2, 0.8), TWO, False),
    ],
)
def test_the_same_answer_means_label_and_probabilities(given, expected, contract, same):
    assert (list(describe_differences([given], [expected], contract, SAME_ANSWER)) == []) is same


def test_values_are_compared_relative_to_their_size():
    contract = {"target": {"name": "y", "classes": None}}
    expected = [{"value": 1e6}, {"value": 200.0}, {"value": 0.0}]
    close = [{"value": 1e6 + 9}, {"value": 200.001}, {"value": 0.001}]
    far = [{"value": 1e6 + 15}, {"value": 201.0}, {"value": 0.003}]
    assert list(describe_differences(close, expected, contract, SAME_ANSWER)) == []
    assert len(list(describe_differences(far, expected, contract, SAME_ANSWER))) == 3
    assert list(describe_differences([], expected, contract, SAME_ANSWER)) == ["0 answers for 3 rows"]


def test_hash_of_a_graph_follows_the_data():
    graphs = [convert_pipeline(*fit(make_table("two", rows), CLASSIFIERS["random_forest"])[:2]) for rows in (200, 201)]
    assert len({hashlib.sha256(graph).digest() for graph in graphs}) == 2
