"""The gate: what a notebook says is not believed, and what cannot be checked has failed."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline

from modeler import ModelerError
from modeler.data.derive import derive_contract
from modeler.data.rows import split_rows
from modeler.data.tables import Table, load_table
from modeler.gate.candidate import Candidate
from modeler.gate.checks import beat_dummy
from modeler.gate.judge import judge_candidate
from modeler.model.answers import decode_answers
from modeler.model.contract import read_json, write_json
from modeler.model.graph import Graph
from modeler.train.estimator import convert_pipeline, encode_table, load_estimator
from modeler.train.metrics import measure_errors, measure_roc_auc


@pytest.fixture(scope="module")
def table():
    return load_table("breast_cancer")


@pytest.fixture
def run(forest, tmp_path):
    """A run with a forest, free to be damaged."""
    return shutil.copytree(forest, tmp_path / "run")


def judge(run, table, floors=None, ceilings=None, holdout=0.2, threshold=0.5):
    told = {"holdout": holdout, "split_by": "", "positive": "", "threshold": threshold}
    return judge_candidate(run, table, told, floors or {}, ceilings or {})


def failed(judgement):
    assert not judgement.passed
    return {check.name: check.sentence for check in judgement.checks if not check.passed}


def test_honest_run_passes_every_check(run, table):
    written = read_json(run / "golden.json")
    (run / "golden.json").unlink()
    judgement = judge(run, table, {"accuracy": 0.9, "recall:malignant": 0.9}, {"log_loss": 0.5})
    assert judgement.passed and judgement.reasons == []
    assert [check.name for check in judgement.checks] == [
        "contract", "graph equals estimator", "metrics are the graph's own", "golden rows",
        "floor of accuracy", "floor of recall:malignant", "ceiling of log_loss", "better than a dummy",
        "not worse than the champion", "as good as it was", "callers of the champion",
    ]  # fmt: skip
    assert judgement.metrics == pytest.approx(read_json(run / "metrics.json"), abs=1e-6)
    assert read_json(run / "golden.json") == written


def test_golden_rows_are_raw_held_out_rows_with_the_estimators_answers(run, table):
    golden, contract = read_json(run / "golden.json"), read_json(run / "contract.json")
    assert len(golden["rows"]) == len(golden["answers"]) == 32
    assert {answer["label"] for answer in golden["answers"]} == {"benign", "malignant"}
    raw = {tuple(row.values()) for row in table.frame.drop(columns="diagnosis").to_dict("records")}
    assert all(tuple(row.values()) in raw for row in golden["rows"])
    estimator = load_estimator(run / "model.skops")
    probabilities = estimator.predict_proba(encode_table(pd.DataFrame(golden["rows"]), contract))
    given = np.array([list(answer["probabilities"].values()) for answer in golden["answers"]])
    assert np.abs(probabilities - given).max() < 1e-6


@pytest.mark.parametrize(
    ("floors", "ceilings", "name", "sentence"),
    [
        ({"accuracy": 0.999}, {}, "floor of accuracy", "is below its floor 0.999"),
        ({"recall:benign": 0.999}, {}, "floor of recall:benign", "is below its floor 0.999"),
        ({}, {"log_loss": 0.001}, "ceiling of log_loss", "is above its ceiling 0.001"),
    ],
)
def test_missed_bound_is_rejected_with_both_numbers(run, table, floors, ceilings, name, sentence):
    told = failed(judge(run, table, floors, ceilings))
    assert list(told) == [name] and sentence in told[name]


def test_metric_raised_by_the_notebook_is_found_out(run, table):
    metrics = read_json(run / "metrics.json")
    write_json(run / "metrics.json", metrics | {"accuracy": metrics["accuracy"] + 2e-6})
    told = failed(judge(run, table))
    assert list(told) == ["metrics are the graph's own"]
    assert told["metrics are the graph's own"].startswith("train.ipynb wrote accuracy 0.99115")


@pytest.mark.parametrize("written", ["NaN", "Infinity", "null", '"0.99"'])
def test_metric_that_is_no_number_is_a_failed_check_in_a_verdict_of_strict_json(run, table, written):
    metrics = json.dumps(read_json(run / "metrics.json") | {"accuracy": "?"}).replace('"?"', written)
    (run / "metrics.json").write_text(metrics)
    judgement = judge(run, table)
    assert failed(judgement)
    json.dumps([asdict(check) for check in judgement.checks], allow_nan=False)


def test_graph_that_answers_nan_is_a_failed_check(run, table):
    estimator, contract = load_estimator(run / "model.skops"), read_json(run / "contract.json")
    model = LogisticRegression().fit(encode_table(table.frame, contract), table.frame["diagnosis"].to_numpy(str))
    model.coef_ *= np.nan
    estimator.steps[1] = ("model", model)
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, encode_table(table.frame, contract)))
    assert "the model answered NaN or Infinity" in failed(judge(run, table))["candidate"]


def test_dates_among_the_columns_pass_the_gate(run, table):
    """In golden.json a date stands as text, as a caller would send it."""
    dated = Table("breast_cancer", table.frame.assign(day=pd.date_range("2020-01-01", periods=569)), "diagnosis")
    judgement = judge(run, dated)
    assert "and differ in 'day'" in failed(judgement)["candidate"]
    heldout = split_rows(dated.frame, 0.2)
    contract = derive_contract(dated, dated.frame[~heldout], min_association=0.1, holdout=0.2)
    X, y = encode_table(dated.frame[~heldout], contract), dated.frame.loc[~heldout, "diagnosis"].to_numpy(str)
    estimator = make_pipeline(RandomForestClassifier(10, random_state=0)).fit(X, y)
    skops.io.dump(estimator, run / "model.skops")
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, X))
    write_json(run / "contract.json", contract)
    judge(run, dated)
    assert read_json(run / "golden.json")["rows"][0]["day"].startswith("202")


def test_metric_left_out_by_the_notebook_is_found_out(run, table):
    metrics = read_json(run / "metrics.json")
    del metrics["recall:malignant"]
    write_json(run / "metrics.json", metrics)
    assert list(failed(judge(run, table))) == ["metrics are the graph's own"]


def test_graph_of_another_model_is_found_out(run, table):
    contract, estimator = read_json(run / "contract.json"), load_estimator(run / "model.skops")
    X = encode_table(table.frame, contract)
    estimator.named_steps["model"].set_params(n_estimators=7).fit(X.to_numpy(), table.frame["diagnosis"].to_numpy(str))
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, X))
    assert {"graph equals estimator", "golden rows"} <= failed(judge(run, table)).keys()


def test_model_no_better_than_a_dummy_is_rejected(run, table):
    contract, estimator = read_json(run / "contract.json"), load_estimator(run / "model.skops")
    X, y = encode_table(table.frame, contract), table.frame["diagnosis"].to_numpy(str)
    shuffled = np.random.default_rng(0).permutation(y)
    estimator.named_steps["model"].set_params(max_depth=3).fit(X.to_numpy(), shuffled)
    skops.io.dump(estimator, run / "model.skops")
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, X))
    told = failed(judge(run, table))
    assert "roc_auc is not clearly above a dummy's" in told["better than a dummy"]


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("model.onnx", b"damaged", "the graph cannot be loaded"),
        ("model.skops", b"damaged", "model.skops cannot be read"),
        ("contract.json", b"{", "is not a contract"),
        ("metrics.json", b"{", "same answers could not be checked"),
        ("metrics.json", b"[]", "same answers could not be checked"),
        ("contract.json", None, "run eda.ipynb first"),
        ("model.onnx", None, "the graph cannot be loaded"),
        ("model.skops", None, "model.skops cannot be read"),
    ],
)
def test_damaged_or_missing_files_are_failed_checks_not_crashes(run, table, file, content, sentence):
    (run / file).unlink()
    if content is not None:
        (run / file).write_bytes(content)
    assert sentence in " ".join(failed(judge(run, table)).values())


class Foreign(DummyClassifier):
    pass


def test_estimator_of_a_foreign_type_is_not_loaded(tmp_path):
    skops.io.dump(Foreign(), tmp_path / "model.skops")
    with pytest.raises(
        ModelerError, match=r"model.skops holds \S*Foreign; only types of scikit-learn and numpy are loaded"
    ):
        load_estimator(tmp_path / "model.skops")


def test_contract_that_deals_rows_otherwise_is_refused(run, table):
    assert "the contract deals rows by" in failed(judge(run, table, holdout=0.3))["candidate"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"classes": ["malignant", "benign"]},
            "the contract's classes ['malignant', 'benign'] are not those of the data",
        ),
        ({"name": "mean radius"}, "the contract is a classification of 'mean radius'"),
    ],
)
def test_contract_that_does_not_fit_the_data_is_refused(run, table, change, sentence):
    contract = read_json(run / "contract.json")
    contract["target"] |= change
    write_json(run / "contract.json", contract)
    assert sentence in failed(judge(run, table))["candidate"]


def loosen(contract):
    contract["features"][0] |= {"missing": True, "max": 1e9}


def flip(contract):
    contract["target"]["positive"] = "benign"


def lower(contract):
    contract["target"]["threshold"] = 0.4999


def rename(contract):
    contract["features"][3]["example"] = "1001.0"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (loosen, "missing of mean radius, max of mean radius differ"),
        (flip, "target differ"),
        (lower, "target differ"),
        (rename, "example of mean area differ"),
    ],
)
def test_contract_that_says_otherwise_than_the_data_is_rejected(run, table, change, sentence):
    contract = read_json(run / "contract.json")
    change(contract)
    write_json(run / "contract.json", contract)
    assert sentence in failed(judge(run, table))["contract"]


def test_columns_that_a_notebook_chose_by_hand_are_its_own_business(run, table):
    contract = read_json(run / "contract.json")
    contract["features"][9] |= {"reason": "a doctor says so"}
    write_json(run / "contract.json", contract)
    assert judge(run, table).passed


def test_threshold_is_the_one_the_pipeline_was_told(run, table):
    assert list(failed(judge(run, table, threshold=0.3))) == ["contract"]


def test_inverted_labels_are_found_out(run, table):
    """Graph and estimator agree with each other, but call malignant what is benign."""
    swap = {"benign": "malignant", "malignant": "benign"}
    swapped = Table("breast_cancer", table.frame.assign(diagnosis=table.frame["diagnosis"].map(swap)), "diagnosis")
    estimator, contract = load_estimator(run / "model.skops"), read_json(run / "contract.json")
    X = encode_table(table.frame, contract)
    estimator.named_steps["model"].fit(X.to_numpy(), swapped.frame["diagnosis"].to_numpy(str))
    skops.io.dump(estimator, run / "model.skops")
    (run / "model.onnx").write_bytes(convert_pipeline(estimator, X))
    assert failed(judge(run, table)).keys() == {"metrics are the graph's own", "better than a dummy"}


def test_model_that_beats_a_dummy_only_by_chance_is_rejected(run, table):
    """Scores with a trace of the truth: above a dummy on these rows, but not by the whole interval."""
    contract, heldout = read_json(run / "contract.json"), split_rows(table.frame, 0.2)
    truth = table.frame.loc[heldout, "diagnosis"].tolist()
    noise = np.random.default_rng(0).normal(size=len(truth))
    for trace, passed in ((0.1, False), (1.5, True)):
        score = 1 / (1 + np.exp(-noise - trace * (np.array(truth) == "malignant")))
        answers = decode_answers(np.column_stack([1 - score, score]), contract)
        check = beat_dummy(Candidate("", contract, table, heldout, [], truth, answers))
        assert measure_roc_auc(np.column_stack([1 - score, score]), np.array(truth) == "malignant") > 0.5
        assert check.passed is passed and (check.value > 0) is passed


def judge_values(known, truth, answers):
    table = Table("made", pd.DataFrame({"y": np.concatenate([known, truth])}), "y")
    heldout = np.arange(len(table.frame)) >= len(known)
    contract = {"task": "regression", "target": {"name": "y", "classes": None}}
    given = [{"value": value} for value in answers]
    return beat_dummy(Candidate("", contract, table, heldout, [], truth.tolist(), given))


def test_regression_beats_a_dummy_or_is_rejected_with_both_measures(table):
    heldout = split_rows(table.frame, 0.2)
    area = table.frame["mean area"].to_numpy()
    known, truth = area[~heldout], area[heldout]
    noise = np.random.default_rng(0).normal(size=len(truth)) * truth.std()
    for values, passed in ((truth + 0.3 * noise, True), (known.mean() + 0.5 * noise, False)):
        check = judge_values(known, truth, values)
        assert check.passed is passed and (check.value > 0) is passed and check.threshold == 0
        assert check.sentence.startswith(f"the answers are {'' if passed else 'not '}clearly better than a dummy's: ")
        for told in ("rank correlation 0.", "against its 0, 95 % interval of the difference ", "mean absolute error from ",
                     "95 % interval of the share it takes off "):  # fmt: skip
            assert told in check.sentence


def test_model_that_halves_the_error_of_a_heavy_tail_passes_where_r2_is_below_0():
    rng = np.random.default_rng(0)
    known, truth = rng.lognormal(sigma=2, size=160), rng.lognormal(sigma=2, size=40)
    values = truth * np.exp(0.5 * rng.normal(size=40))
    values[np.argmax(truth)] *= 3
    assert r2_score(truth, values) < 0 and judge_values(known, truth, values).passed


@pytest.mark.parametrize("better", [np.mean, np.median])
def test_dummy_is_the_better_of_mean_and_median(better):
    """The sentence tells its error; a model that answers alike never beats it."""
    rng = np.random.default_rng(0)
    known = rng.lognormal(size=160)
    truth = better(known) + 0.1 * rng.normal(size=40)
    errors = {
        constant: measure_errors(np.full(40, constant(known)), truth, known).mean() for constant in (np.mean, np.median)
    }
    assert min(errors, key=errors.get) is better
    for constant, error in errors.items():
        check = judge_values(known, truth, np.full(40, constant(known)))
        assert not check.passed and check.value <= 0
        assert f"{error:.4g} against its {errors[better]:.4g}, " in check.sentence


def test_holdout_without_a_class_fails_with_what_to_do(run, table, tmp_path):
    rare = table.frame[table.frame["diagnosis"] == "benign"]
    answers = Graph(run / "model.onnx", read_json(run / "contract.json"))
    heldout = np.ones(len(rare), bool)
    rows = rare.head(20).drop(columns="diagnosis").to_dict("records")
    with pytest.raises(ModelerError, match="no held-out row is malignant; raise holdout or bring more rows"):
        beat_dummy(Candidate("", answers.contract, table, heldout, [], ["benign"] * 20, answers.answer(rows)))


def test_verdict_file_has_each_check_with_number_threshold_and_sentence(retrained):
    project, result = retrained
    verdict = json.loads((project.store / "models" / result["model"].replace(":", "/") / "verdict.json").read_text())
    assert verdict["verdict"] == "promoted" and verdict["reasons"] == []
    assert all(check.keys() == {"name", "passed", "value", "threshold", "sentence"} for check in verdict["checks"])


def test_copy_of_a_run_is_judged_alike_anywhere(run, table, tmp_path):
    other = shutil.copytree(run, tmp_path / "elsewhere")
    assert judge(run, table) == judge(other, table)
