"""Values with an interval: as wide as it must be, the same in graph and estimator, tested by the gate, and answered at every hop."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pandas as pd
import pytest
import skops.io
from cells import make_mixed, run_cells, write_table
from conftest import ROOT, Serving, read_only, read_whole
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from pydantic import TypeAdapter
from sklearn import ensemble
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import Pipeline
from test_graph import REGRESSORS, fit, make_table
from test_tables import write_cars

import modeler
from modeler import ModelerError, UsageError
from modeler.commands.progress import Progress
from modeler.commands.retrain import check_request
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import Table, load_table
from modeler.gate.bounds import check_bounds
from modeler.gate.callers import list_breaking_changes
from modeler.gate.candidate import Candidate
from modeler.gate.checks import check_interval
from modeler.gate.judge import judge_candidate
from modeler.model.answers import NotFiniteError, decode_answers, describe_differences
from modeler.model.contract import read_contract, read_json, write_json
from modeler.model.graph import Graph, import_runtime
from modeler.model.stored import StoredModel, content_version
from modeler.runs.reproduce import Recipe, compare_answers
from modeler.service.openapi import describe_api
from modeler.service.predictor import Predictor
from modeler.ship.remote import Answers
from modeler.train import add_interval, answer_with_estimator, convert_pipeline
from modeler.train.estimator import load_estimator
from modeler.train.interval import append_interval, least_coverage, measure_radii, score_intervals
from modeler.train.regressor import IntervalRegressor

PACKAGE = Path(modeler.__file__).parent
VALUE = {"name": "y", "classes": None}
NOTEBOOKS = [ROOT / "notebooks" / name for name in ("eda.ipynb", "train.ipynb")]


def fit_interval(estimator, level=0.9, times=1.0, logarithmic=False):
    """A fitted Pipeline with an interval, the contract that says so, and the raw rows."""
    table = make_table("values")
    table.frame["y"] = np.exp(table.frame["y"]) if logarithmic else table.frame["y"] * times
    if logarithmic:
        estimator = TransformedTargetRegressor(estimator, func=np.log, inverse_func=np.exp)
    pipeline, X, contract = fit(table, estimator, scaled=isinstance(estimator, Ridge))
    y = table.frame["y"].to_numpy()
    guessed = cross_val_predict(pipeline, X, y, cv=KFold(5, shuffle=True, random_state=0))
    contract["target"]["interval"] = level
    return add_interval(pipeline, y, guessed, level).fit(X, y), X, contract, table.frame


# How wide


def test_radius_is_the_conformal_rank_of_the_errors_where_all_answers_are_alike():
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 21.0))
    for level, rank in ((0.9, 19), (0.5, 11), (0.95, 20)):  # of 21 places, the last of which is infinity
        knots, radii = measure_radii(errors, np.zeros(20), level)
        assert knots.tolist() == [0] and radii == pytest.approx([rank])


@pytest.mark.parametrize(("level", "least"), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_level_that_needs_more_rows_is_refused_with_their_number(level, least):
    assert np.isfinite(measure_radii(np.arange(least), np.zeros(least), level)[1]).all()
    with pytest.raises(ModelerError, match=f"an interval of {level:g} needs {least} rows to train on, and there are {least - 1}"):
        measure_radii(np.arange(least - 1), np.zeros(least - 1), level)


@pytest.mark.parametrize("spread", [1e-12, 1.0, 1e6])
def test_curve_is_no_steeper_than_the_answer(spread):
    rng = np.random.default_rng(0)
    guessed = rng.normal(scale=spread, size=800)
    knots, radii = measure_radii(guessed + rng.normal(size=800) * (guessed > 0), guessed, 0.9)
    assert len(knots) == 10 and (np.diff(knots) > 0).all()
    assert (np.abs(np.diff(radii)) <= np.diff(knots) * (1 + 1e-9) + 1e-12).all()
    assert (radii >= 0).all()


def test_model_without_any_error_has_intervals_without_any_width():
    assert measure_radii(np.arange(99.0), np.arange(99.0), 0.9)[1].tolist() == [0]


@pytest.mark.medium
@pytest.mark.parametrize("target", ["normal", "uneven", "log-normal"])
@pytest.mark.parametrize("model", [Ridge(), ensemble.ExtraTreesRegressor(10, random_state=0)], ids=["ridge", "trees"])
def test_intervals_cover_what_they_say_where_errors_are_small_and_where_they_are_great(target, model):
    rng = np.random.default_rng(0)
    X, error = rng.normal(size=(5400, 3)), rng.normal(size=5400)
    signal = 2 * X[:, 0] + X[:, 1]
    scale = 0.2 + np.exp(signal / 3) if target == "uneven" else 1
    y = np.exp((signal + error) / 2) if target == "log-normal" else signal + error * scale
    pipeline = Pipeline([("model", TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp))])
    pipeline = pipeline if target == "log-normal" else Pipeline([("model", model)])
    guessed = cross_val_predict(pipeline, X[:400], y[:400])
    output = add_interval(pipeline, y[:400], guessed, 0.9).fit(X[:400], y[:400]).predict_interval(X[400:])
    answers = decode_answers(output, {"target": VALUE | {"interval": 0.9}})
    assert score_intervals(answers, y[400:])["coverage"] == pytest.approx(0.9, abs=0.05)
    greatest = np.argsort(output[:, 0])[-1000:]
    assert ((output[:, 1] <= y[400:]) & (y[400:] <= output[:, 2]))[greatest].mean() > 0.78


# The same at every hop


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "times", "logarithmic"),
    [
        ("logistic_regression", 1e-5, False), ("logistic_regression", 1e6, False), ("logistic_regression", 1, True),
        ("hist_gradient_boosting", 1, False), ("random_forest", 1e6, False), ("extra_trees", 1, True), ("vote", 1, True),
    ],  # fmt: skip
)
def test_graph_answers_value_low_and_high_like_the_estimator_singly_and_as_a_batch(tmp_path, name, times, logarithmic):
    vote = ensemble.VotingRegressor([("ridge", Ridge()), ("boosting", REGRESSORS["hist_gradient_boosting"])])
    model, X, contract, frame = fit_interval((REGRESSORS | {"vote": vote})[name], 0.9, times, logarithmic)
    skops.io.dump(model, tmp_path / "model.skops")
    model = load_estimator(tmp_path / "model.skops")
    assert isinstance(model, IntervalRegressor)
    graph, rows = Graph(convert_pipeline(model, X), contract), raw_records(frame.drop(columns="y"))
    rows.append(rows[0] | {"mean area (mm²)": 2e3, "1st colour": "never seen"})
    expected = answer_with_estimator(model, pd.DataFrame(rows), contract)
    answers = graph.answer(rows)
    assert list(describe_differences(answers, expected, contract, 1e-5)) == []
    alone = [graph.answer([row])[0] for row in rows[-20:]]
    assert list(describe_differences(alone, answers[-20:], contract, 1e-6)) == []
    for answer in answers:
        assert [*answer] == ["value", "low", "high"] and answer["low"] <= answer["value"] <= answer["high"]
        assert not logarithmic or answer["low"] > 0
    assert score_intervals(answers[:-1], frame["y"])["coverage"] > 0.85


def test_graph_answers_the_value_alone_where_no_error_was_made():
    model, X, contract, frame = fit_interval(Ridge(), 0.5)
    model.radii = model.radii * 0
    for answer in Graph(convert_pipeline(model, X), contract).answer(raw_records(frame.drop(columns="y"))):
        assert answer["low"] == answer["value"] == answer["high"]


def test_exponential_that_is_off_by_a_last_digit_puts_no_value_outside_its_interval():
    """Of some numbers in a million, ONNX Runtime's exponential is greater than that of the next number."""
    numbers = make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 1])
    answer = make_tensor_value_info("answer", TensorProto.FLOAT, [None, 1])
    graph = make_graph([make_node("Identity", ["numbers"], ["answer"])], "made", [numbers], [answer])
    append_interval(graph, np.zeros(1), np.array([1.5e-8]), logarithmic=True)
    made = make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=10).SerializeToString()
    session = import_runtime().InferenceSession(made)
    z = np.random.default_rng(0).uniform(-0.25, -0.23, size=(1_000_000, 1)).astype("float32")
    value, low, high = session.run(None, {"numbers": z})[0].T
    assert (low <= value).all() and (value <= high).all() and (low < high).any()


def test_low_and_high_never_fall_while_the_value_rises():
    model, X, contract, frame = fit_interval(REGRESSORS["random_forest"])
    answers = sorted(Graph(convert_pipeline(model, X), contract).answer(raw_records(frame)), key=lambda a: a["value"])
    for end in ("low", "high"):
        assert (np.diff([answer[end] for answer in answers]) > -1e-5).all()


def test_model_skops_may_hold_no_other_type_of_ours(tmp_path):
    skops.io.dump(Progress(), tmp_path / "model.skops")
    with pytest.raises(ModelerError, match="holds modeler.commands.progress.Progress; only types of scikit-learn"):
        load_estimator(tmp_path / "model.skops")


@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_answers_differ_where_one_number_does_or_an_end_is_missing(end):
    contract, answer = {"target": VALUE | {"interval": 0.9}}, {"value": 100.0, "low": 0.0, "high": 1000.0}
    near, far = answer | {end: answer[end] + 5e-4}, answer | {end: answer[end] + 2e-2}
    assert list(describe_differences([near], [answer], contract, 1e-5)) == []
    (told,) = describe_differences([far], [answer], contract, 1e-5)
    assert told.startswith("row 0: ") and told.endswith("instead of 100 (0 to 1000)")
    bare = {"value": 100.0}
    assert list(describe_differences([bare], [answer], contract, 1e-5)) == ["row 0: 100 instead of 100 (0 to 1000)"]
    assert list(describe_differences([answer], [bare], {"target": VALUE}, 1e-5))


@pytest.mark.parametrize("column", [1, 2])
def test_interval_without_end_is_no_answer(column):
    output = np.array([[1, 0, 2], [1, 0, 2]], dtype=np.float32)
    output[1, column] = np.inf
    with pytest.raises(NotFiniteError) as error:
        decode_answers(output, {"target": VALUE | {"interval": 0.9}})
    assert error.value.rows == [1]


def test_service_answers_low_and_high_as_its_openapi_document_says(tmp_path):
    model, X, contract, frame = fit_interval(Ridge())
    (tmp_path / "model.onnx").write_bytes(convert_pipeline(model, X))
    write_json(tmp_path / "contract.json", contract)
    rows = raw_records(frame.drop(columns="y"))[:5]
    expected = answer_with_estimator(model, frame[:5], contract)
    write_json(tmp_path / "golden.json", {"rows": rows, "answers": expected})
    predictor = Predictor(StoredModel(f"made:{content_version(tmp_path)}", tmp_path), 100)
    predictor.check_golden()
    answer = json.loads(predictor.answer(json.dumps(rows).encode()).body)
    assert [*answer["predictions"][0]] == ["value", "low", "high", "warnings"]
    document = describe_api(contract, predictor.example, 100, 1000)
    schemas = document["components"]["schemas"]
    assert schemas["Answer"]["properties"]["low"]["description"] == "90 % of the true values lie between it and high"
    jsonschema.validate(answer, {"$ref": "#/components/schemas/Answers", "components": {"schemas": schemas}})
    del answer["predictions"][0]["low"]
    with pytest.raises(jsonschema.ValidationError, match="'low' is a required property"):
        jsonschema.validate(answer, {"$ref": "#/components/schemas/Answers", "components": {"schemas": schemas}})
    kept = TypeAdapter(Answers).validate_python({"model": "a:b", "predictions": expected})
    assert kept["predictions"] == expected  # `verify --url` compares low and high too
    write_json(tmp_path / "golden.json", {"rows": rows, "answers": [one | {"low": one["low"] - 1} for one in expected]})
    with pytest.raises(ModelerError, match="differs from its golden rows: one row a request, row 0: .* to "):
        predictor.check_golden()


def test_reproduce_says_how_far_apart_the_ends_are(tmp_path):
    model, X, contract, frame = fit_interval(Ridge())
    for name, times in (("then", 1), ("now", 2)):
        fitted = copy.deepcopy(model)
        fitted.radii = model.radii * times
        write_json(tmp_path / name / "contract.json", contract)
        (tmp_path / name / "model.onnx").write_bytes(convert_pipeline(fitted, X))
    told = {"parameters": {"eda.ipynb": {"holdout": 0.2, "split_by": ""}}, "data": {"sha256": "0"}}
    recipe = Recipe(StoredModel("a:b", tmp_path / "then"), told, {}, None, Table("made", frame, "y"), "0")
    (sentence,) = compare_answers(recipe, tmp_path / "now").values()
    largest = float(re.search(r"their values at most ([\d.]+) apart", sentence)[1])
    assert model.radii.min() * 0.9 < largest < model.radii.max() * 1.1


# The gate


@pytest.mark.parametrize(("level", "trained", "held"), [(0.9, 200, 50), (0.8, 1000, 250), (0.99, 400, 100)])
def test_least_coverage_is_missed_by_one_sound_model_in_a_hundred_at_most(level, trained, held):
    rng, least = np.random.default_rng(0), least_coverage(level, trained, held)
    errors = np.sort(np.abs(rng.normal(size=(4000, trained))), axis=1)
    radius = errors[:, int(np.ceil((trained + 1) * level)) - 1]
    covered = (np.abs(rng.normal(size=(4000, held))) <= radius[:, None]).mean(axis=1)
    assert (covered < least).mean() <= 0.015 < (covered < least + 2.5 / held).mean()


def make_candidate(covered: int, held: int = 200, by: str | None = None) -> Candidate:
    """`covered` of the held-out true values lie within intervals of 90 %; `by` has ten rows a group."""
    frame = pd.DataFrame({"y": np.zeros(1000), "by": np.arange(1000) // 10})
    contract = {"task": "regression", "target": VALUE | {"interval": 0.9}, "holdout": {"share": 0.2, "split_by": by}}
    answers = [{"value": 0.0, "low": 0.0 if row < covered else 0.5, "high": 1.0} for row in range(held)]
    return Candidate("", contract, Table("made", frame, "y"), np.arange(1000) >= 800, [], [0.0] * held, answers)


def test_coverage_on_the_holdout_is_tested_and_stated():
    (check,) = check_interval(make_candidate(172))
    assert (check.name, check.passed, check.value) == ("interval", True, 0.86)
    least = round(check.threshold * 200)
    assert check.sentence == (
        "86.0 % of the 200 held-out true values lie within their intervals of 90 %; "
        f"chance explains {least / 2:.1f} % or more"
    )
    assert [check_interval(make_candidate(covered))[0].passed for covered in (least - 1, least)] == [False, True]
    (grouped,) = check_interval(make_candidate(172, by="by"))
    assert grouped.threshold < check.threshold - 0.04  # 20 groups tell less than 200 rows
    plain = make_candidate(0)
    del plain.contract["target"]["interval"]
    assert check_interval(plain) == []


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of train.ipynb with an interval, in this process, and its table."""
    monkeypatch.chdir(tmp_path)
    told, table = write_table(make_mixed("numbers"))
    run_cells(told | {"estimator": "logistic_regression", "interval": 0.9}, until="wrote contract.json")
    return tmp_path, table


@pytest.mark.medium
def test_gate_holds_contract_metrics_and_graph_to_the_interval_that_was_told(run):
    folder, table = run
    told = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": "0.5", "interval": 0.9}
    bounds = {"r2": 0.1, "coverage": 0.7}, {"interval_width": 100.0}
    judgement = judge_candidate(folder, table, told, *bounds)
    assert judgement.reasons == []
    names = [check.name for check in judgement.checks]
    assert names[4:8] == ["floor of r2", "floor of coverage", "ceiling of interval_width", "interval"]
    metrics = read_json(folder / "metrics.json")
    assert judgement.metrics["coverage"] == metrics["coverage"] and metrics["interval_width"] > 0
    assert set(read_json(folder / "golden.json")["answers"][0]) == {"value", "low", "high"}
    for other in (0.8, 0):
        (reason,) = judge_candidate(folder, table, told | {"interval": other}, {}, {}).reasons
        assert reason == "the contract is not that of the data and parameters: target differ"
    write_json(folder / "metrics.json", metrics | {"coverage": metrics["coverage"] + 0.01})
    (reason,) = judge_candidate(folder, table, told, {}, {}).reasons
    assert reason.startswith("train.ipynb wrote coverage")
    estimator = load_estimator(folder / "model.skops")
    estimator.radii = estimator.radii / 4
    skops.io.dump(estimator, folder / "model.skops")
    assert "graph and estimator differ in" in judge_candidate(folder, table, told, {}, {}).reasons[0]
    contract = read_contract(folder / "contract.json")
    del contract["target"]["interval"]  # and then the graph's three numbers a row are no values
    write_json(folder / "contract.json", contract)
    assert judge_candidate(folder, table, told, {}, {}).reasons


def test_interval_less_breaks_callers_and_one_more_does_not():
    old = {"task": "regression", "target": VALUE | {"interval": 0.9}, "features": []}
    new = {"task": "regression", "target": VALUE, "features": []}
    told = ["'low' and 'high' are gone from the answers, whose values had an interval"]
    assert list_breaking_changes(old, new) == told and list_breaking_changes(new, old) == []
    assert list_breaking_changes(old, old | {"target": VALUE | {"interval": 0.8}}) == []


# Options


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["interval=0.3"], "interval must be one of 0, or from 0.5 to 0.99, got: 0.3"),
        (["interval=0.9"], "only values have an interval, and 'diagnosis' has 2 classes; leave it out, or make"),
    ],
)
def test_interval_that_cannot_be_is_said_before_any_kernel_starts(given, sentence, capsys):
    with pytest.raises(UsageError, match=sentence):
        check_request(make_options(param=given), NOTEBOOKS, Progress())


def test_too_few_rows_for_a_level_and_bounds_without_an_interval_are_said_before_any_kernel_starts(tmp_path, capsys):
    frame = pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0) ** 2 / 7})
    frame.to_csv(tmp_path / "few.csv", index=False)
    few = {"data": str(tmp_path / "few.csv"), "target": "y"}
    with pytest.raises(UsageError, match="-p interval=0.99: an interval of 0.99 needs 99 rows to train on, and there are"):
        check_request(make_options(param=["interval=0.99"], **few), NOTEBOOKS, Progress())
    for option, bound in (("--min", "coverage=0.8"), ("--max", "interval_width=3")):
        with pytest.raises(UsageError, match="without an interval there is no .*; add -p interval=0.9"):
            check_bounds([bound], option, None)
        assert check_bounds([bound], option, None, has_interval=True)


def make_options(**given) -> SimpleNamespace:
    plain = {"data": "breast_cancer", "target": None, "name": None, "split_by": None, "split_time": None, "param": [], "floors": []}
    return SimpleNamespace(**(plain | {"ceilings": [], "containerize": False} | given))


@pytest.mark.slow
def test_interval_is_trained_stored_served_verified_and_reproduced(project, typed, tmp_path):
    """As it is typed, of a file with an odd name, with a column of one's own and a split by time.

    The checkout is read-only, and the stored model names nothing of this machine. What follows the reproduction runs in
    this process.
    """
    project.settings = {}  # so that the plots are drawn
    path = write_cars(tmp_path).rename(project.folder / "Own cars.parquet")
    own = 'own_columns = {"strength": lambda c: c["Horsepower"] / c["Weight_in_lbs"]}'
    project.edit_cell("train.ipynb", "own_columns = {}", lambda _: own)
    words = ["--data", path.name, "--target", "Miles_per_Gallon", "-p", "estimator=logistic_regression", "--split-time", "Year"]
    guard = read_only(project.folder / "notebooks", PACKAGE)
    denied = subprocess.run([*guard, "touch", PACKAGE / "x"], capture_output=True, text=True)
    assert "Read-only file system" in denied.stderr
    whole = [*guard, sys.executable, "pipeline.py", *words, "-p", "interval=0.9", "--min", "coverage=0.8", "--json"]
    done = subprocess.run(whole, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "promoted" and result["metrics"]["coverage"] > 0.8
    contract, provenance = (read_json(project.runs[0] / f"{name}.json") for name in ("contract", "provenance"))
    assert contract["own_columns"] == ["strength"] and provenance["holdout"]["time"] == contract["split"]["time"] == "Year"
    stored = project.store / "models" / result["model"].replace(":", "/")
    assert (project.runs[0] / path.name).is_symlink() and not (stored / path.name).exists()
    for file in stored.iterdir():
        for trace in (project.folder.parent, Path.home(), ROOT, Path(sys.prefix)):
            assert f"{trace}/".encode() not in read_whole(file), f"{file.name} names {trace}"
    assert provenance["parameters"]["eda.ipynb"]["data"] == path.name
    table = load_table(str(path), "Miles_per_Gallon")
    rows = raw_records(table.frame[split_rows(table.frame, 0.2, "", "Year")].drop(columns="Miles_per_Gallon"))
    with Serving(project, tmp_path / "log", "model=own_cars") as serving:
        status, answer = serving.predict(rows)
        known = json.loads(serving.ask("/model")[2])
        assert typed("verify", "--url", serving.url).returncode == 0
    assert status == 200, answer
    assert all(given["low"] < given["value"] < given["high"] for given in answer["predictions"])
    assert known["contract"]["target"]["interval"] == 0.9
    assert any(check["name"] == "interval" and check["passed"] for check in known["verdict"]["checks"])
    again = project.retrain("reproduce", "own_cars")
    assert again.returncode == 0, again.stdout + again.stderr
    assert typed("verify", "own_cars").returncode == 0
    shorter = typed(*words, "-p", "interval=0.5", "--json")
    assert shorter.returncode == 0, shorter.stdout
    assert typed("rollback", "own_cars").returncode == 0
    assert "rolled back" in typed("history", "own_cars").stdout
