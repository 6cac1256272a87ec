"""Runs and models side by side: what differs, rows that none trained on, and what is told of files that are gone."""

import json
import re
import shutil

import nbformat
import numpy as np
import pytest
from cells import run_cells
from conftest import ROOT, copy_of
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from modeler import UsageError
from modeler.compare.differences import (
    compare_cells,
    compare_columns,
    compare_data,
    compare_packages,
    compare_parameters,
)
from modeler.compare.examples import write_examples, write_run
from modeler.compare.rows import answer_rows
from modeler.compare.scores import list_disagreements, pair_scores, score_sides
from modeler.compare.sides import list_notes, read_sides
from modeler.data.rows import split_rows
from modeler.data.tables import load_table
from modeler.model.contract import read_json, write_json

LINEAR, FOREST = "logistic_regression", "random_forest"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The two examples of the notebook."""
    folder = tmp_path_factory.mktemp("runs")
    write_examples(folder)
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """A copy of them, free to be damaged."""
    return shutil.copytree(made, tmp_path / "runs")


def edit_json(path, edit):
    content = read_json(path)
    edit(content)
    write_json(path, content)


def write_data(folder, bunch, target, name="table.csv", **columns):
    """Write data with more columns as a file, and read it as a table."""
    names = getattr(bunch, "target_names", None)
    given = bunch.target if names is None else [f"kind {number}" for number in bunch.target]
    bunch.data.assign(**{target: given}, **columns).to_csv(folder / name, index=False)
    return load_table(str(folder / name), target)


def add_file_run(runs, name, model=None, **columns):
    """A run of a file in its own folder, as a retrain links to it."""
    folder = runs / name
    folder.mkdir(parents=True)
    table = write_data(folder, load_breast_cancer(as_frame=True), "diagnosis", **columns)
    write_run(folder, table, model or DecisionTreeClassifier(max_depth=3, random_state=0), "0.5", "table.csv")
    return table


# --- what is compared


@pytest.mark.medium
@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([LINEAR], "compare takes 2 to 10 runs or model tags, got: 1"),
        ([LINEAR] * 11, "compare takes 2 to 10 runs or model tags, got: 11"),
        ([LINEAR, LINEAR], "logistic_regression is given twice, as logistic_regression; name another run or model"),
        ([LINEAR, "orders"], "there is no run and no model orders; runs: 20261127-1, 20261126-9/01; models: none"),
        ([LINEAR, "20261127-2"], "there is no run and no model 20261127-2 (did you mean '20261127-1'?); runs: "),
        ([LINEAR, ".."], "there is no run and no model ..; runs: "),
        ([LINEAR, "20261126-9"], "20261126-9 is a sweep; name runs of it: 20261126-9/01"),
        ([LINEAR, "empty"], "empty is no run of a retrain: it has neither contract.json nor eda.ipynb nor train.ipynb"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_compared_are_refused_in_one_sentence(names, told, runs, home):
    for folder in ("20261126-9/01", "20261127-1"):
        (runs / folder).mkdir(parents=True)
        shutil.copy(ROOT / "notebooks" / "train.ipynb", runs / folder)
    (runs / "20261126-9" / "sweep.json").write_text("{}")
    (runs / "empty").mkdir()
    with pytest.raises(UsageError) as error:
        read_sides(names, runs)
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda contract: contract["target"].update(name="y"), "the target of the first is 'diagnosis', of the second 'y'"),
        (lambda contract: contract.update(task="regression"), "the task of the first is classification, of the second regression"),
        (lambda contract: contract["target"]["classes"].append("odd"), 'the classes of the first are "benign", "malignant", of the '),
    ],
)  # fmt: skip
def test_models_of_different_targets_are_refused_in_one_sentence(edit, told, runs):
    edit_json(runs / FOREST / "contract.json", edit)
    with pytest.raises(UsageError, match=re.escape(told)) as error:
        read_sides([LINEAR, FOREST], runs)
    assert "\n" not in str(error.value)


def test_run_is_found_by_its_name_and_by_its_path(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert [side.name for side in read_sides([f"runs/{LINEAR}/", FOREST], runs)] == [LINEAR, FOREST]


# --- what differs


def test_parameters_and_columns_that_differ_are_named(runs):
    sides = read_sides([LINEAR, FOREST], runs)
    assert compare_parameters(sides) == {
        "min_association": {LINEAR: "0.1", FOREST: "0.7"},
        "estimator": {LINEAR: LINEAR, FOREST: FOREST},
    }
    columns = compare_columns(sides)
    assert columns["mean texture"] == {LINEAR: "number", FOREST: "number, dropped"}
    assert "worst radius" not in columns and "mean fractal dimension" not in columns  # used by both, and by none
    assert compare_data(sides) == compare_packages(sides) == compare_cells(sides) == {}


def test_data_and_packages_that_differ_are_named_and_what_one_did_not_record_is_none(runs):
    packages = {"packages": {"numpy": "2.0"}, "python": "3.11.7", "modeler": "a" * 64}
    edit_json(runs / LINEAR / "provenance.json", lambda told: told.update(packages | {"platform": "Linux"}))
    packages["packages"] = {"numpy": "2.1", "joblib": "1.0"}
    edit_json(runs / FOREST / "provenance.json", lambda told: told.update(packages, data=told["data"] | {"rows": 7}))
    sides = read_sides([LINEAR, FOREST], runs)
    assert compare_data(sides) == {"rows": {LINEAR: 569, FOREST: 7}}
    assert compare_packages(sides) == {"numpy": {LINEAR: "2.0", FOREST: "2.1"}}


def test_cells_that_differ_are_shown_as_a_diff_without_the_injected_one(runs):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"x = {n}") for n in range(9)])
    nbformat.write(notebook, runs / LINEAR / "eda.ipynb")
    notebook.cells[4].source = "x = 4\ny = 5"
    notebook.cells.insert(0, nbformat.v4.new_code_cell("z = 1", metadata={"tags": ["injected-parameters"]}))
    nbformat.write(notebook, runs / FOREST / "eda.ipynb")
    diff = compare_cells(read_sides([LINEAR, FOREST], runs))["eda.ipynb"][FOREST].splitlines()
    assert diff[:2] == [f"--- {LINEAR}", f"+++ {FOREST}"]
    assert [line for line in diff[2:] if line[0] in "+-"] == ["+y = 5"]


# --- rows that none trained on


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_row_is_compared_only_if_all_held_it_out(share, runs):
    edit_json(runs / FOREST / "contract.json", lambda contract: contract["split"].update(share=share))
    edit_json(runs / FOREST / "provenance.json", lambda told: told["parameters"]["eda.ipynb"].update(holdout=share))
    rows = answer_rows(read_sides([LINEAR, FOREST], runs))
    frame = load_table("breast_cancer").frame
    assert rows.frame.index.tolist() == np.flatnonzero(split_rows(frame, min(share, 0.2))).tolist()
    assert rows.truth == frame.loc[rows.frame.index, "diagnosis"].tolist()
    assert {name: len(answers) for name, answers in rows.answers.items()} == dict.fromkeys([LINEAR, FOREST], len(rows.truth))


@pytest.mark.medium
def test_model_whose_data_are_gone_or_changed_answers_rows_of_the_others(runs):
    for name in ("one", "two", "three"):
        table = add_file_run(runs, name)
    (runs / "one" / "table.csv").unlink()
    with open(runs / "two" / "table.csv", "a") as file:
        file.write(open(file.name).readlines()[-1])
    rows = answer_rows(read_sides(["one", "two", "three"], runs))
    assert [*rows.answers] == ["one", "two", "three"]
    assert rows.frame.index.tolist() == np.flatnonzero(split_rows(table.frame, 0.2)).tolist()
    assert rows.notes[0] == "the data of one, table.csv, are gone"
    assert re.match("the data of two, table.csv, changed: SHA-256 [0-9a-f]{12} then, [0-9a-f]{12} now$", rows.notes[1])


@pytest.mark.medium
def test_without_any_data_recorded_scores_are_all_there_is(runs, tmp_path, capsys, monkeypatch):
    for name in ("one", "two"):
        add_file_run(runs, name)
        (runs / name / "table.csv").unlink()
    shown = run_cells({"sides": "one,two", "runs": str(runs), "out": str(tmp_path)}, notebook="compare.ipynb")
    figures = read_json(tmp_path / "compare.json")
    assert figures["notes"][-2] == "no data are as they were, so no rows are answered and only recorded scores are shown"
    assert figures["rows"] == 0 and figures["scores"] == {} and figures["gains"] == []
    assert figures["recorded"]["one"]["roc_auc"] > 0.8 and figures["importance"] and shown["importance"].shape[1] == 2


@pytest.mark.medium
def test_row_that_a_model_of_other_columns_trained_on_is_known_by_the_columns_that_stayed(runs):
    old = add_file_run(runs, "old")
    new = add_file_run(runs, "new", colour=np.arange(569) % 7)
    rows = answer_rows(read_sides(["old", "new"], runs))
    expected = split_rows(old.frame, 0.2) & split_rows(new.frame, 0.2)
    assert 5 < expected.sum() < 60  # the columns deal the rows anew
    assert rows.frame.index.tolist() == np.flatnonzero(expected).tolist() and [*rows.answers] == ["old", "new"]


def place_by(run, **split):
    """Have a run's rows be held out by a group or by time, in its contract and its parameters."""
    edit_json(run / "contract.json", lambda told: told["split"].update(split))
    given = {f"split_{way}": name for way, name in split.items() if way in ("by", "time")}
    edit_json(run / "provenance.json", lambda told: told["parameters"]["eda.ipynb"].update(given))


@pytest.mark.medium
def test_group_is_dealt_alike_by_models_whose_other_columns_changed(runs):
    patient, colour = np.arange(569) // 3, np.arange(569) % 7
    add_file_run(runs, "old", patient=patient)
    new = add_file_run(runs, "new", patient=patient, colour=colour)
    for name in ("old", "new"):
        place_by(runs / name, by="patient")
    rows = answer_rows(read_sides(["old", "new"], runs))
    expected = split_rows(new.frame, 0.2, "patient")
    assert [*rows.answers] == ["old", "new"] and rows.frame.index.tolist() == np.flatnonzero(expected).tolist()
    assert not set(patient[expected]) & set(patient[~expected]) and 50 < expected.sum() < 200


@pytest.mark.medium
def test_group_is_unseen_by_a_model_only_if_none_of_its_rows_was_trained_on(runs):
    patient = np.arange(569) // 3
    old = add_file_run(runs, "old", patient=patient)
    new = add_file_run(runs, "new", patient=patient, colour=np.arange(569) % 7)
    place_by(runs / "old", by="patient")  # the other's rows are dealt one by one
    rows = answer_rows(read_sides(["old", "new"], runs))
    expected = split_rows(old.frame, 0.2, "patient") & split_rows(new.frame, 0.2)
    assert rows.frame.index.tolist() == np.flatnonzero(expected).tolist() and expected.sum() > 5
    backwards = answer_rows(read_sides(["new", "old"], runs))  # the rows are then those of the other's table
    assert backwards.frame.index.tolist() == np.flatnonzero(expected).tolist()


@pytest.mark.medium
def test_rows_from_the_later_boundary_on_are_compared_though_columns_changed(runs):
    day = np.arange(569) * 1.0
    for name, more in (("old", {}), ("new", {"colour": np.arange(569) % 7})):
        add_file_run(runs, name, day=day, **more)
        place_by(runs / name, time="day", boundary="500.0" if name == "new" else "455.0")
    rows = answer_rows(read_sides(["old", "new"], runs))
    assert [*rows.answers] == ["old", "new"] and rows.frame["day"].tolist() == day[day >= 500].tolist()
    place_by(runs / "new", time="day", boundary="300.0")
    earlier = answer_rows(read_sides(["old", "new"], runs)).frame["day"]
    assert earlier.tolist() == day[split_rows(load_table(str(runs / "old" / "table.csv"), "diagnosis").frame, 0.2, "", "day")].tolist()


@pytest.mark.medium
def test_model_that_needs_a_column_of_its_own_or_has_no_known_rows_is_left_out_with_the_reason(runs):
    add_file_run(runs, "old")
    add_file_run(runs, "new", colour=load_breast_cancer().target + np.random.default_rng(0).normal(size=569) / 3)
    (runs / "new" / "table.csv").unlink()
    rows = answer_rows(read_sides(["old", "new"], runs))
    assert [*rows.answers] == ["old"]
    assert "new is left out of what follows: it uses 'colour' as a number, and the table of old has none" in rows.notes
    assert pair_scores(rows) == ([], "fewer than two sides answer the same rows, so there is no difference to measure")
    edit_json(runs / "new" / "contract.json", lambda told: told["features"][-1].update(used=False))
    reasons = answer_rows(read_sides(["old", "new"], runs)).notes
    assert any("its rows were dealt by other columns and its data are not there" in reason for reason in reasons)


# --- figures


def test_gain_is_paired_and_its_interval_holds_it(runs):
    rows = answer_rows(read_sides([LINEAR, FOREST], runs))
    scores, ((gain,), why) = score_sides(rows), pair_scores(rows)
    told = [scores[name]["roc_auc"] for name in (FOREST, LINEAR)]
    assert all(score["low"] <= score["value"] <= score["high"] for score in told) and why == ""
    assert (gain["side"], gain["over"]) == (FOREST, LINEAR)
    assert gain["gain"] == told[0]["value"] - told[1]["value"] and gain["low"] <= gain["gain"] <= gain["high"]


def test_same_model_gains_nothing_and_never_disagrees(runs):
    shutil.copytree(runs / FOREST, runs / "again")
    rows = answer_rows(read_sides([FOREST, "again"], runs))
    ((gain,), _) = pair_scores(rows)
    assert gain["gain"] == gain["low"] == gain["high"] == 0 and list_disagreements(rows).empty


def test_rows_of_other_labels_are_listed_the_furthest_apart_first(runs):
    rows = answer_rows(read_sides([LINEAR, FOREST], runs))
    table = list_disagreements(rows)
    labels = [[answer["label"] for answer in answers] for answers in rows.answers.values()]
    assert len(table) == sum(ours != theirs for ours, theirs in zip(*labels)) > 0
    assert (table[LINEAR] != table[FOREST]).all() and table["apart"].is_monotonic_decreasing


# --- the notebook


@pytest.mark.medium
def test_notebook_without_names_compares_two_examples(tmp_path):
    run_cells({"out": str(tmp_path)}, notebook="compare.ipynb")
    figures = read_json(tmp_path / "compare.json")
    assert [side["name"] for side in figures["sides"]] == [LINEAR, FOREST]
    assert figures["rows"] == 113 and figures["scores"][LINEAR]["roc_auc"]["value"] > 0.99
    assert len(figures["disagreements"]["shown"]) == figures["disagreements"]["rows"]
    assert figures["importance"]["mean texture"][FOREST] is None


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["several", "values"])
def test_notebook_compares_several_classes_and_values(kind, tmp_path):
    """One column is called A, like the letter of a model."""
    runs, bunch = tmp_path / "runs", (load_wine if kind == "several" else load_diabetes)(as_frame=True)
    letter = bunch.target + np.random.default_rng(0).normal(scale=bunch.target.std(), size=len(bunch.target))
    models = [DecisionTreeClassifier(max_depth=3, random_state=0), RandomForestClassifier(20, random_state=0)]
    models = models if kind == "several" else [LinearRegression(), RandomForestRegressor(20, random_state=0)]
    for name, model in zip(("one", "two"), models):
        (runs / name).mkdir(parents=True)
        table = write_data(runs / name, bunch, "y", A=letter)
        write_run(runs / name, table, model, "0.1", "table.csv")
    run_cells({"sides": "one,two", "runs": str(runs), "out": str(tmp_path)}, notebook="compare.ipynb")
    figures = read_json(tmp_path / "compare.json")
    measures = [gain["measure"].partition(" from")[0] for gain in figures["gains"]]
    assert measures == (["roc_auc"] if kind == "several" else ["rank correlation", "mean absolute error"])
    assert {"roc_auc", "recall:kind 2"} < figures["scores"]["one"].keys() if kind == "several" else figures["scores"]["two"]["r2"]
    assert 0 < figures["disagreements"]["rows"] < figures["rows"]


def test_run_of_before_is_compared_by_the_files_it_has(runs, tmp_path):
    for name in ("importance.json", "provenance.json"):
        (runs / FOREST / name).unlink()
    (runs / FOREST / "metrics.json").write_text("[1")
    told = read_json(runs / LINEAR / "provenance.json")["parameters"]["eda.ipynb"]
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"parameters": told | {"min_association": "0.7"}}})
    nbformat.write(notebook, runs / FOREST / "eda.ipynb")
    run_cells({"sides": f"{LINEAR},{FOREST}", "runs": str(runs), "out": str(tmp_path)}, notebook="compare.ipynb")
    figures = read_json(tmp_path / "compare.json")
    missing = ["metrics.json", "importance.json", "provenance.json", "train.ipynb"]
    assert figures["sides"][1]["missing"] == missing
    assert f"{FOREST} has no readable importance.json: its importance of columns are left out" in figures["notes"]
    assert f"{FOREST} did not note the hash of its data, breast_cancer, which may have changed" in figures["notes"]
    assert figures["recorded"].keys() == {LINEAR} and figures["scores"].keys() == {LINEAR, FOREST}
    assert figures["differences"]["parameters"]["min_association"] == {LINEAR: "0.1", FOREST: "0.7"}


def test_run_of_a_sweep_has_the_data_and_packages_of_its_sweep(runs):
    made_from = {"the data": "5" * 64, "the package modeler": "6" * 64, "Python": "3.11", "a package": {"numpy": "1"}}
    shutil.copytree(runs / FOREST, runs / "20261126-9" / "01")
    (runs / "20261126-9" / "01" / "provenance.json").unlink()
    write_json(runs / "20261126-9" / "sweep.json", {"made_from": made_from})
    sides = read_sides([LINEAR, "20261126-9/01"], runs)
    assert sides[1].name == "20261126-9/01" and "provenance.json" not in sides[1].missing
    assert compare_data(sides)["SHA-256"]["20261126-9/01"] == "5" * 12
    assert len(list_notes(sides)) == 4  # that the notebooks of both are missing


# --- the command


def test_command_refuses_in_one_sentence_before_a_run_is_made(typed, project):
    done = typed("compare", "orders", "20261126-1")
    assert done.returncode == 2 and done.stdout == "" and project.runs == []
    assert done.stderr == "pipeline.py: there is no run and no model orders; runs: none; models: none\n"
    done = typed("compare", "orders", "--json")
    assert done.returncode == 2 and "compare takes 2 to 10" in json.loads(done.stdout)["error"]


@pytest.mark.slow
def test_command_makes_a_page_of_a_run_and_a_model(retrained, made, tmp_path):
    project, result = copy_of(retrained, tmp_path / "elsewhere"), retrained[1]
    for name in (LINEAR, FOREST):
        shutil.copytree(made / name, project.folder / "runs" / name)
    done = project.retrain("compare", result["model"], f"runs/{FOREST}", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    (run,) = [path for path in project.runs if path.name not in (LINEAR, FOREST)]
    assert figures == {"run": str(run)} | read_json(run / "compare.json")
    assert [side["name"] for side in figures["sides"]] == [result["model"], FOREST] and figures["sides"][0]["missing"] == []
    assert figures["rows"] == 113 and "n_estimators" in figures["differences"]["parameters"]
    page = (run / "compare.html").read_text("utf-8")
    assert result["model"] in page and str(tmp_path) not in page and 'src="http' not in page
