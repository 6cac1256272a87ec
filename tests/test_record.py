"""As good as it was: what only the champion's recorded score shows, and the columns that drifted."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import fill_run
from sklearn.ensemble import RandomForestClassifier

from modeler.data.derive import derive_contract
from modeler.data.rows import split_rows
from modeler.data.tables import load_table
from modeler.gate.judge import judge_candidate
from modeler.gate.record import check_record
from modeler.model.contract import read_json, write_json
from modeler.model.stored import StoredModel, content_version

TOLD = {"holdout": 0.2, "split_by": "", "positive": "", "threshold": 0.5}


@pytest.fixture
def champion(forest, tmp_path):
    folder = shutil.copytree(forest, tmp_path / "champion")
    return StoredModel(f"breast_cancer:{content_version(folder)}", folder)


def retrain(forest, run, change):
    """A run on data that somebody changed, as the notebooks would leave it, and its table."""
    table = load_table("breast_cancer")
    change(frame := table.frame)
    shutil.copytree(forest, run)
    contract, derived = read_json(run / "contract.json"), derive_contract(table, frame[~split_rows(frame, 0.2)], 0, 0.2, "")
    for ours, theirs in zip(contract["features"], derived["features"]):
        ours.update({fact: theirs[fact] for fact in ("min", "max", "example") if fact in ours})
    write_json(run / "contract.json", contract | {"target": derived["target"]})
    fill_run(run, frame, RandomForestClassifier(random_state=0))
    return replace(table, frame=frame)


def flip_third(frame):
    flipped = np.random.default_rng(1).random(len(frame)) < 1 / 3
    frame.loc[flipped, "diagnosis"] = frame.loc[flipped, "diagnosis"].map({"benign": "malignant", "malignant": "benign"})


def find_check(judgement):
    (check,) = [check for check in judgement.checks if check.name == "as good as it was"]
    return check


def test_third_of_the_labels_wrong_is_rejected_by_the_record_alone(forest, champion, tmp_path):
    table = retrain(forest, tmp_path / "run", flip_third)
    judgement = judge_candidate(tmp_path / "run", table, TOLD, {}, {}, champion)
    assert [check.name for check in judgement.checks if not check.passed] == ["as good as it was"]
    check, then = find_check(judgement), read_json(champion.path / "metrics.json")["roc_auc"]
    now, theirs = judgement.metrics["roc_auc"], judgement.champion_metrics["roc_auc"]
    assert then - now > 0.1 and check.value < check.threshold == -0.01
    assert check.sentence.startswith(f"roc_auc {now:.4g} against the champion's {then:.4g} when it was promoted (95 % interval")
    assert f"The champion has {theirs:.4g} on these data too, so the data changed. No column drifted" in check.sentence
    assert check.sentence.endswith("look at 'diagnosis' itself. Mend the data, or give --allow-lower-score")
    allowed = judge_candidate(tmp_path / "run", table, TOLD, {}, {}, champion, allow_lower_score=True)
    assert allowed.passed and find_check(allowed).sentence.endswith("Passed by --allow-lower-score")


def test_columns_that_drifted_are_named_worst_first(forest, champion, tmp_path):
    def change(frame):
        flip_third(frame)
        frame["mean radius"] *= 1.3
        frame["worst texture"] *= 1.2

    table = retrain(forest, tmp_path / "run", change)
    sentence = find_check(judge_candidate(tmp_path / "run", table, TOLD, {}, {}, champion)).sentence
    assert "Against its reference drifted 'mean radius' (PSI " in sentence
    assert sentence.index("'mean radius'") < sentence.index("'worst texture'") and sentence.count("PSI") == 2
    (champion.path / "reference.json").unlink()
    sentence = find_check(judge_candidate(tmp_path / "run", table, TOLD, {}, {}, champion)).sentence
    assert "no reference.json, as models of before" in sentence


def test_same_score_passes_and_so_does_the_first_model(forest, champion, tmp_path):
    run, table = shutil.copytree(forest, tmp_path / "run"), load_table("breast_cancer")
    (run / "contract.json").write_text((run / "contract.json").read_text() + "\n")
    told = [find_check(judge_candidate(run, table, TOLD, {}, {}, one)) for one in (champion, None)]
    assert all(check.passed for check in told) and "which is not clearly worse" in told[0].sentence
    assert told[1].sentence == "there is no champion with a recorded score"


@pytest.mark.parametrize(("worse", "passes"), [(1.0, True), (1.5, False)])
def test_values_are_held_to_the_recorded_error(champion, worse, passes):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    answers = [{"value": value} for value in truth + worse * rng.normal(size=400)]
    contract = {"task": "regression", "target": {"name": "y", "classes": None}, "features": []}
    write_json(champion.path / "contract.json", contract)
    write_json(champion.path / "metrics.json", {"mae": float(np.sqrt(2 / np.pi))})
    write_json(champion.path / "reference.json", {"columns": []})
    table = SimpleNamespace(frame=None, target="y")
    candidate = SimpleNamespace(version="other", contract=contract, truth=truth, answers=answers, table=table)
    check = check_record(champion, candidate, {}, False)
    assert check.passed == passes and "mae" in check.sentence
    assert passes or "could not be asked on these data. No column drifted" in check.sentence
