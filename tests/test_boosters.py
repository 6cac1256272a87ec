"""LightGBM, XGBoost and CatBoost: on real tables, stored, converted, averaged, weighed, and where they are not installed."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
import test_graph
import test_own
from cells import make_mixed, run_cells
from conftest import ROOT
from palmerpenguins import load_penguins
from sklearn import ensemble
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_wine
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from vega_datasets import local_data

from modeler import ModelerError, UsageError
from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import Table, load_table
from modeler.model.answers import SAME_ANSWER, describe_differences
from modeler.model.contract import write_json
from modeler.model.graph import import_runtime
from modeler.model.stored import StoredModel, content_version
from modeler.runs.provenance import describe_provenance
from modeler.service.predictor import Predictor
from modeler.train.boosters import NEEDS, check_installed, list_boosters, make_booster
from modeler.train.choices import balance_classes, check_class_weight, check_transform
from modeler.train.compare import average_pipelines
from modeler.train.estimator import RESTORED, answer_with_estimator, convert_pipeline, load_estimator

TABLES = {
    "texts": (load_penguins, "species"),
    "two texts": (load_penguins, "sex"),
    "numbered classes": (lambda: load_wine(as_frame=True).frame, "target"),
    "booleans": (lambda: make_mixed("two"), "class"),
    "values": (lambda: local_data.cars().dropna(subset="Miles_per_Gallon"), "Miles_per_Gallon"),
}


def train(tmp_path, monkeypatch, name, kind, until="graph and estimator differ", **told) -> dict:
    """What the cells of train.ipynb set, up to the one that compares graph and estimator."""
    monkeypatch.chdir(tmp_path)
    make, target = TABLES[kind]
    make().to_parquet("table.parquet")
    table = load_table("table.parquet", target)
    training = table.frame[~split_rows(table.frame, 0.2)]
    write_json(tmp_path / "contract.json", derive_contract(table, training, min_association=0, holdout=0.2))
    told = {"data": "table.parquet", "estimator": name, "n_estimators": 10, "out": "."} | told
    return run_cells(told, until=until)


@pytest.mark.medium
@pytest.mark.parametrize("kind", [*TABLES, "logarithms"])
@pytest.mark.parametrize("name", NEEDS)
def test_real_table_is_answered_by_the_service_like_the_estimator_from_skops(tmp_path, monkeypatch, name, kind):
    told = {"target_transform": "log"} if kind == "logarithms" else {}
    names = train(tmp_path, monkeypatch, name, kind.replace("logarithms", "values"), max_categories=2, **told)
    skops.io.dump(names["pipeline"], "model.skops", compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "model.onnx").write_bytes(names["model"])
    contract, frame = names["contract"], names["table"].frame.drop(columns=names["target"]["name"])
    rows = raw_records(frame) + [row | unseen(contract) for row in raw_records(frame[:20])]
    expected = answer_with_estimator(load_estimator(tmp_path / "model.skops"), pd.DataFrame(rows), contract)
    write_json(tmp_path / "golden.json", {"rows": rows[:32], "answers": expected[:32]})
    predictor = Predictor(StoredModel(f"table:{content_version(tmp_path)}", tmp_path), 1000)
    predictor.check_golden()
    answer = json.loads(predictor.answer(json.dumps(rows).encode()).body)["predictions"]
    assert list(describe_differences(answer, expected, contract, SAME_ANSWER)) == []
    assert len({json.dumps(one) for one in expected}) > 10, "the model has learned nothing"


def unseen(contract) -> dict:
    """A category that training did not see in each column of categories, and null in each that has had one."""
    used = [feature for feature in contract["features"] if feature["used"]]
    categories = {feature["name"]: "never seen" for feature in used if feature["type"] == "category"}
    return categories | {feature["name"]: None for feature in used if feature["missing"]}


# Each beside each other, and in an average, over one small made table


def make_pipelines(task: str) -> tuple[dict, pd.DataFrame, np.ndarray]:
    """The three and a forest, unfitted, as train.ipynb puts them together; LightGBM and XGBoost split categories themselves."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a b": rng.normal(size=400).round(1), "c": rng.integers(5, size=400)}, dtype="float32")
    X = X.where(rng.random(X.shape) > 0.1).assign(t=pd.Series(rng.choice(list("uvwxyz"), 400), dtype=object))
    y = np.exp(X["c"].fillna(0) + X["t"].isin(["x", "z"]) + rng.normal(scale=0.1, size=400)).to_numpy()
    y = np.array(["little", "more", "much"])[np.digitize(y, [3, 20])] if task == "classes" else y
    classes, kept = ["little", "more", "much"] if task == "classes" else None, [list("uvwxy")]
    one_hot = OneHotEncoder(categories=kept, handle_unknown="ignore", sparse_output=False)
    numbered = OrdinalEncoder(categories=kept, handle_unknown="use_encoded_value", unknown_value=np.nan)
    settings = {"n_estimators": 20, "random_state": 0}
    models = {name: make_booster(name, classes, 2, 1, None, settings) for name in NEEDS}
    kind = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
    models["hist"] = kind(max_iter=20)
    if task == "logarithms":
        how = {"func": np.log, "inverse_func": np.exp}
        models = {name: TransformedTargetRegressor(model, **how) for name, model in models.items()}
    coding = {"lightgbm": numbered, "xgboost": numbered}
    pipelines = {
        name: Pipeline([
            ("columns", ColumnTransformer([
                ("numbers", "passthrough", ["a b", "c"]), ("categories", coding.get(name, one_hot), ["t"]),
            ])),
            ("model", model),
        ])
        for name, model in models.items()
    }  # fmt: skip
    return pipelines, X, y


def ask_graph(pipeline, X) -> np.ndarray:
    session = import_runtime().InferenceSession(convert_pipeline(pipeline, X))
    return session.run(None, {"numbers": X[["a b", "c"]].to_numpy(), "categories": X[["t"]].to_numpy(object)})[-1]


@pytest.mark.medium
@pytest.mark.parametrize("task", ["classes", "values", "logarithms"])
@pytest.mark.parametrize("pair", [("lightgbm", "hist"), ("catboost", "xgboost"), ("lightgbm", "xgboost")])
def test_average_answers_the_mean_of_its_members_and_so_does_its_graph(tmp_path, task, pair):
    pipelines, X, y = make_pipelines(task)
    pipelines = {name: pipelines[name] for name in pair}
    average = average_pipelines(pipelines).fit(X, y)
    answer = "predict_proba" if task == "classes" else "predict"
    each = [getattr(pipeline.fit(X, y), answer)(X) for pipeline in pipelines.values()]
    mean = np.exp(np.log(each).mean(axis=0)) if task == "logarithms" else np.mean(each, axis=0)
    assert getattr(average, answer)(X) == pytest.approx(mean, rel=1e-6)
    assert ask_graph(average, X).reshape(mean.shape) == pytest.approx(mean, rel=1e-5, abs=1e-5)
    skops.io.dump(average, tmp_path / "model.skops")
    assert getattr(load_estimator(tmp_path / "model.skops"), answer)(X) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_categories_are_split_into_sets_and_not_by_their_order(name):
    """In the middle of six categories stands the one that counts, which a single split by order cannot cut out."""
    X = pd.DataFrame({"code": np.arange(600) % 6}, dtype="float32")
    settings = {"n_estimators": 1, "learning_rate": 1, "max_depth": 1}
    settings |= {"min_child_samples": 1, "cat_smooth": 0} if name == "lightgbm" else {"max_cat_to_onehot": 10}
    booster = make_booster(name, None, 0, 1, None, settings).fit(X.to_numpy(), X["code"] == 3)
    assert np.unique(booster.predict(X.to_numpy()).round(3)).size == 2
    assert booster.predict(X.to_numpy())[3] > 0.9


def test_lightgbm_splits_where_a_float32_goes_the_same_way():
    even = pd.DataFrame({"x": np.arange(0, 60, 0.2, dtype="float32")})
    between = pd.DataFrame({"x": np.arange(0.1, 60, 0.2).round(1).astype("float32")})
    y = np.random.default_rng(0).normal(size=len(even))
    model = make_booster("lightgbm", None, 1, 0, None, {"min_child_samples": 2})
    columns = ColumnTransformer([("numbers", "passthrough", ["x"])])
    pipeline = Pipeline([("columns", columns), ("model", model)]).fit(even, y)
    session = import_runtime().InferenceSession(convert_pipeline(pipeline, even))
    answers = session.run(None, {"numbers": between.to_numpy()})[0].ravel()
    assert answers == pytest.approx(pipeline.predict(between), abs=1e-5)


def hash_graphs(threads: int) -> list[str]:
    """The SHA-256 of graphs made here: of each package's estimator, of those of scikit-learn, and with own columns."""
    pipelines, X, y = make_pipelines("classes")
    for name in NEEDS:
        [parameter] = [one for one in pipelines[name].get_params() if one.endswith(("n_jobs", "thread_count")) and name in one]
        pipelines[name].set_params(**{parameter: threads})
    graphs = [convert_pipeline(pipelines[name].fit(X, y), X) for name in NEEDS]
    return [hashlib.sha256(graph).hexdigest() for graph in graphs] + test_graph.hash_graphs() + test_own.hash_graphs()


@pytest.mark.slow
def test_graph_has_the_same_bytes_in_every_process_from_any_number_of_threads():
    here, script = hash_graphs(1), "import sys; sys.path.insert(0, 'tests'); import test_boosters as t; print(*t.hash_graphs(2))"
    assert len(set(here)) == 6
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "2"}
        words = [sys.executable, "-c", script]
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.split() == here


# Stored


@pytest.mark.parametrize("name", NEEDS)
def test_no_other_type_of_these_packages_is_loaded(tmp_path, monkeypatch, name):
    pipelines, X, y = make_pipelines("classes")
    skops.io.dump(pipelines[name].fit(X, y), tmp_path / "model.skops")
    monkeypatch.setitem(RESTORED, name, ())
    with pytest.raises(ModelerError, match=rf"model.skops holds .*{name}\S*; only types of scikit-learn and numpy are"):
        load_estimator(tmp_path / "model.skops")


def test_file_of_a_package_that_is_not_installed_is_refused_by_its_name(tmp_path, monkeypatch):
    pipelines, X, y = make_pipelines("values")
    skops.io.dump(pipelines["catboost"].fit(X, y), tmp_path / "model.skops")
    for module in [module for module in sys.modules if module.partition(".")[0] == "catboost"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    with pytest.raises(ModelerError, match="model.skops needs the package catboost, which is not installed; install it"):
        load_estimator(tmp_path / "model.skops")


# Installed or not


@pytest.mark.parametrize("absent", ["lightgbm", "onnxmltools"])
def test_estimator_without_its_package_names_the_extra(tmp_path, monkeypatch, absent):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == absent else find(name, *more))
    sentence = rf"estimator=lightgbm needs the package {absent}, which is not installed; run `pip install -e '.\[lightgbm\]'"
    with pytest.raises(ModelerError, match=sentence):
        check_installed("lightgbm")
    with pytest.raises(ModelerError, match=sentence):
        train(tmp_path, monkeypatch, "lightgbm", "values", until="boosters = {}")
    assert "catboost" in list_boosters("auto", built_in=False) and "lightgbm" not in list_boosters("auto", built_in=False)


def test_auto_takes_what_is_installed_but_for_the_built_in_data():
    assert list_boosters("auto", built_in=False) == ["lightgbm", "xgboost", "catboost"]
    assert list_boosters("auto", built_in=True) == list_boosters("extra_trees", built_in=False) == []
    assert list_boosters("xgboost", built_in=True) == ["xgboost"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("estimator", "built_in", "named"),
    [
        ("lightgbm", True, {"lightgbm", "onnxmltools"}),
        ("catboost", False, {"catboost"}),
        ("auto", False, {"lightgbm", "xgboost", "xgboost-cpu", "catboost", "onnxmltools"}),
        ("auto", True, set()),
        ("extra_trees", False, set()),
    ],
)
def test_provenance_names_the_packages_of_the_estimator(tmp_path, estimator, built_in, named):
    notebooks = [tmp_path / "train.ipynb", tmp_path / "eda.ipynb"]
    for notebook in notebooks:
        notebook.write_text('{"cells": []}')
    parameters = {"eda.ipynb": {"split_by": "", "holdout": 0.2}, "train.ipynb": {"estimator": estimator}}
    table = Table("made", make_mixed("two"), "y", built_in=built_in)
    packages = describe_provenance(table, notebooks, parameters)["packages"]
    optional = {name for names in NEEDS.values() for name in names} | {"xgboost-cpu"}
    assert packages.keys() & optional == named
    assert all(packages[name] for name in named - {"xgboost", "xgboost-cpu"})


# Class weights and the logarithm


@pytest.mark.parametrize(
    ("estimator", "classes", "sentence"),
    [
        ("auto", None, "only classes have a weight, and 'y' has values; leave it out"),
        ("gradient_boosting", ["a", "b"], "gradient_boosting cannot weigh classes; take another estimator, such as hist_"),
        ("xgboost", ["a", "b", "c"], "xgboost cannot weigh more than two classes; take another estimator"),
        ("xgboost", ["a", "b"], None),
        ("catboost", ["a", "b", "c"], None),
        ("auto", ["a", "b", "c"], None),
    ],
)
def test_class_weight_is_refused_where_there_is_none(estimator, classes, sentence):
    check_class_weight("none", estimator, classes, "y")
    if sentence is None:
        check_class_weight("balanced", estimator, classes, "y")
    else:
        with pytest.raises(UsageError, match=f"-p class_weight=balanced: {sentence}"):
            check_class_weight("balanced", estimator, classes, "y")


@pytest.mark.medium
@pytest.mark.parametrize(
    "name", ["logistic_regression", "hist_gradient_boosting", "random_forest", "extra_trees", *NEEDS]
)
def test_balanced_classes_raise_the_probability_of_the_rare_one(tmp_path, monkeypatch, name):
    frame = make_mixed("numbers")
    rare = frame.assign(y=np.where(frame["y"] > frame["y"].quantile(0.85), "rare", "usual"))
    monkeypatch.setitem(TABLES, "rare", (lambda: rare, "y"))
    means = [
        np.mean([answer["probabilities"]["rare"] for answer in names["expected"]])
        for weight in ("none", "balanced")
        for names in [train(tmp_path, monkeypatch, name, "rare", class_weight=weight)]
    ]
    assert means[1] > means[0] + 0.02


def test_auto_leaves_out_what_cannot_weigh_classes(tmp_path, monkeypatch):
    told = {"class_weight": "balanced", "until": 'print("compared:"'}
    assert train(tmp_path, monkeypatch, "auto", "texts", **told)["candidates"].keys() == {
        "logistic_regression", "binned_logistic_regression", "hist_gradient_boosting", "random_forest", "extra_trees",
        "lightgbm", "catboost",
    }  # fmt: skip


def test_xgboost_weighs_the_second_class_by_the_first():
    assert balance_classes("xgboost", np.array(["b", "a", "a", "a"])) == {"scale_pos_weight": 3.0}


@pytest.mark.parametrize(
    ("values", "classes", "sentence"),
    [
        ([1.0, 2.0, 0.5], None, None),
        ([1.0, 0.0, 2.0], None, "only values above 0 have a logarithm, and 'y' holds 0; leave it out"),
        ([-3.25, 1.0, 0.0, -1.0], None, "and 'y' holds -3.25 and 2 more up to 0; leave it out"),
        (["a", "b"], ["a", "b"], "only values have a logarithm, and 'y' has classes; leave it out"),
    ],
)
def test_logarithm_of_what_has_none_is_refused(values, classes, sentence):
    check_transform("none", values, classes, "y")
    if sentence is None:
        check_transform("log", values, classes, "y")
    else:
        with pytest.raises(UsageError, match=f"-p target_transform=log: .*{sentence}"):
            check_transform("log", values, classes, "y")


def test_notebook_says_that_a_target_has_no_logarithm(tmp_path, monkeypatch):
    frame = make_mixed("numbers")
    monkeypatch.setitem(TABLES, "negative", (lambda: frame, "y"))
    with pytest.raises(UsageError, match="only values above 0 have a logarithm, and 'y' holds -"):
        train(tmp_path, monkeypatch, "extra_trees", "negative", target_transform="log")


@pytest.mark.medium
@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("kind", ["two texts", "values"])
def test_search_draws_settings_that_the_estimator_has(tmp_path, monkeypatch, name, kind, capsys):
    names = train(tmp_path, monkeypatch, name, kind, until='print("settings:"', tuning_iterations=2, n_estimators=3)
    assert len(names["space"]) == 4
    assert names["space"].keys() <= names["pipeline"].get_params().keys()
    assert "tuning 2 of 2: " in capsys.readouterr().out
