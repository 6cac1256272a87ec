"""Probabilities at their word: cross-fitted, the same in graph and estimator, by groups where rows belong together."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from cells import ask, make_mixed, run_cells, write_table
from palmerpenguins import load_penguins
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from test_graph import CLASSIFIERS, fit, make_table
from test_interval import NOTEBOOKS, make_options

from modeler import UsageError
from modeler.commands.progress import Progress
from modeler.commands.retrain import check_request
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.gate.judge import judge_candidate
from modeler.model.answers import describe_differences
from modeler.model.contract import read_contract
from modeler.model.graph import Graph
from modeler.model.stored import find_champion
from modeler.service.predictor import Predictor
from modeler.train import answer_with_estimator, convert_pipeline, fit_calibrated, guess_rows
from modeler.train.estimator import load_estimator

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
VOTE = VotingClassifier(
    [(name, CLASSIFIERS[name]) for name in ("logistic_regression", "hist_gradient_boosting")],
    voting="soft", flatten_transform=False,
)  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("kind", ["two", "several", "numbers"])
@pytest.mark.parametrize("name", ["logistic_regression", "hist_gradient_boosting", "extra_trees", "vote"])
def test_graph_of_a_calibrated_classifier_answers_like_the_one_from_skops(tmp_path, kind, name, method):
    table = make_table(kind)
    pipeline, X, contract = fit(table, (CLASSIFIERS | {"vote": VOTE})[name], name == "logistic_regression")
    y = np.array(table.frame["y"].tolist())
    model = fit_calibrated(pipeline, method, X[:300], y[:300], FOLDS)
    skops.io.dump(model, tmp_path / "model.skops")
    model = load_estimator(tmp_path / "model.skops")
    graph, rows = Graph(convert_pipeline(model, X), contract), raw_records(table.frame.drop(columns="y"))
    answers, expected = graph.answer(rows), answer_with_estimator(model, pd.DataFrame(rows), contract)
    assert list(describe_differences(answers, expected, contract, 1e-5)) == []
    alone = [graph.answer([row])[0] for row in rows[:20]]
    assert list(describe_differences(alone, answers[:20], contract, 1e-5)) == []
    plain = answer_with_estimator(pipeline, pd.DataFrame(rows), contract)
    assert list(describe_differences(answers, plain, contract, 1e-3))  # calibration changes something


def make_sure_of_itself(rows: int, seed: int = 0):
    """Two classes, and eight copies of one column, which naive Bayes counts eight times."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    y = np.where(rng.random(rows) < 1 / (1 + np.exp(-1.5 * x)), "yes", "no")
    return pd.DataFrame({f"x{copy}": x + rng.normal(scale=0.1, size=rows) for copy in range(8)}).astype("float32"), y


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_of_a_model_that_is_too_sure_come_true(method):
    (X, y), (X_new, y_new) = make_sure_of_itself(1500), make_sure_of_itself(4000, seed=1)
    columns = ColumnTransformer([("numbers", "passthrough", list(X))])
    pipeline = Pipeline([("columns", columns), ("model", GaussianNB())]).fit(X, y)
    calibrated = fit_calibrated(pipeline, method, X, y, FOLDS)
    before, after = (model.predict_proba(X_new)[:, 1] for model in (pipeline, calibrated))
    assert brier_score_loss(y_new == "yes", after) < brier_score_loss(y_new == "yes", before) - 0.02
    assert roc_auc_score(y_new == "yes", after) == pytest.approx(roc_auc_score(y_new == "yes", before), abs=0.005)
    sure = after > 0.7
    assert (y_new[sure] == "yes").mean() == pytest.approx(after[sure].mean(), abs=0.06)
    guessed = guess_rows(pipeline, X, y, FOLDS, calibrate=method, within=FOLDS)[0][:, 1]
    assert brier_score_loss(y == "yes", guessed) == pytest.approx(brier_score_loss(y_new == "yes", after), abs=0.02)


def test_one_model_is_fitted_to_all_rows_and_its_map_to_rows_it_did_not_see():
    """As scikit-learn does with `ensemble=False`, given the folds of the groups."""
    X, y = make_sure_of_itself(400)
    groups = pd.Series(np.arange(400) // 8, index=X.index)
    columns = ColumnTransformer([("numbers", "passthrough", list(X))])
    pipeline = Pipeline([("columns", columns), ("model", CLASSIFIERS["logistic_regression"])]).fit(X, y)
    calibrated = fit_calibrated(pipeline, "sigmoid", X, y, GroupKFold(5), groups)
    folds = list(GroupKFold(5).split(X, y, groups))
    theirs = CalibratedClassifierCV(clone(pipeline["model"]), method="sigmoid", cv=folds, ensemble=False)
    numbers = pipeline["columns"].transform(X)
    assert np.array_equal(calibrated.predict_proba(X), theirs.fit(numbers, y).predict_proba(numbers))
    (fitted,) = calibrated[-1].calibrated_classifiers_
    assert np.array_equal(fitted.estimator.predict_proba(numbers), pipeline.predict_proba(X))
    assert calibrated[-1].cv is None  # no row numbers go into model.skops


@pytest.mark.medium
def test_rows_of_one_group_never_calibrate_each_other():
    """Groups that are copies of one row with labels by chance: whoever has seen the group knows them."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 2)).repeat(5, axis=0), rng.integers(2, size=60).repeat(5)
    X, groups = pd.DataFrame(x, columns=["a", "b"]).astype("float32"), pd.Series(np.arange(300) // 5)
    columns = ColumnTransformer([("numbers", "passthrough", ["a", "b"])])
    pipeline = Pipeline([("columns", columns), ("model", CLASSIFIERS["extra_trees"])])
    guessed = guess_rows(pipeline, X, labels, GroupKFold(5), groups, "sigmoid", GroupKFold(5))[0][:, 1]
    alike = guess_rows(pipeline, X, labels, FOLDS, None, "sigmoid", FOLDS)[0][:, 1]
    assert roc_auc_score(labels, guessed) < 0.7 < 0.9 < roc_auc_score(labels, alike)


def run_train(folder, monkeypatch, kind: str, **told) -> dict:
    monkeypatch.chdir(folder)
    given, table = write_table(make_mixed(kind))
    return run_cells(given | told, until="wrote contract.json") | {"table": table}


@pytest.mark.medium
def test_threshold_and_scores_come_from_calibrated_cross_validated_answers(tmp_path, monkeypatch, capsys):
    names = run_train(tmp_path, monkeypatch, "two", estimator="random_forest", calibrate="sigmoid", threshold="auto")
    printed = capsys.readouterr().out
    assert re.search(r"before: Brier score 0\.\d+, log loss 0\.\d+\nsigmoid: Brier score 0\.\d+, log loss", printed)
    folds = names["folds"]
    again, _ = guess_rows(
        names["candidates"]["random_forest"], names["X_drawn"], names["y_drawn"], folds, None, "sigmoid", folds
    )
    assert np.allclose(names["guessed"], again[:, names["target"]["classes"].index(names["target"]["positive"])])
    assert isinstance(load_estimator(tmp_path / "model.skops")[-1], CalibratedClassifierCV)
    told = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": "auto"}
    assert judge_candidate(tmp_path, names["table"], told, {}, {}).reasons == []


@pytest.mark.medium
def test_boosting_for_several_classes_is_calibrated_and_passes_the_gate(tmp_path, monkeypatch, capsys):
    names = run_train(tmp_path, monkeypatch, "several", estimator="hist_gradient_boosting", calibrate="isotonic")
    assert "isotonic: Brier score" in capsys.readouterr().out
    told = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": "0.5"}
    judgement = judge_candidate(tmp_path, names["table"], told, {}, {})
    assert {check.name for check in judgement.checks if not check.passed} <= {"better than a dummy"}


def test_values_are_not_calibrated_and_that_is_said_before_any_kernel_starts(capsys):
    options = make_options(target="mean area", param=["calibrate=isotonic"])
    with pytest.raises(
        UsageError, match="only classes have probabilities, and 'mean area' has values; leave it out, or give"
    ):
        check_request(options, NOTEBOOKS, Progress())
    with pytest.raises(UsageError, match="calibrate must be one of none, sigmoid, isotonic, got: platt"):
        check_request(make_options(param=["calibrate=platt"]), NOTEBOOKS, Progress())


@pytest.mark.medium
def test_calibrated_model_is_trained_stored_and_served_like_its_estimator(typed, tmp_path):
    path = tmp_path / "penguins.csv"
    load_penguins().dropna(subset="sex").to_csv(path, index=False)
    words = ["--data", path, "--target", "sex", "-p", "estimator=hist_gradient_boosting", "-p", "calibrate=isotonic"]
    done = typed(*words, "-p", "n_estimators=20", "--json")
    assert done.returncode == 0, done.stderr
    run = Path(json.loads(done.stdout)["run"])
    table, contract = load_table(str(path), "sex"), read_contract(run / "contract.json")
    rows, estimator = table.frame[split_rows(table.frame, 0.2)], load_estimator(run / "model.skops")
    assert isinstance(estimator[-1], CalibratedClassifierCV)
    expected = answer_with_estimator(estimator, rows, contract)
    status, answer = ask(Predictor(find_champion("penguins"), 10_000), raw_records(rows.drop(columns="sex")))
    assert status == 200, answer
    assert list(describe_differences(answer["predictions"], expected, contract, 1e-5)) == []
