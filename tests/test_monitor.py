"""The monitor: a log and labels in, a verdict out; what drifted is found, and what did not is left in peace."""

import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from cells import run_cells
from conftest import copy_of
from test_graph import make_table
from test_predictor import store_model

from modeler import ModelerError
from modeler.data.drift import compare_counts, count_values, describe_column, list_counts
from modeler.data.rows import raw_records
from modeler.data.tables import load_table
from modeler.gate.candidate import Candidate
from modeler.gate.reference import write_reference
from modeler.model.contract import read_json, used_features, write_json, write_text
from modeler.model.stored import StoredModel, content_version
from modeler.monitor import (
    compare_rows,
    judge_drift,
    make_example,
    open_model,
    read_labels,
    read_log,
    read_moment,
    read_table,
    read_truth,
    score_labels,
)
from modeler.monitor.compare import FEWEST_ROWS, find_start
from modeler.service.prediction_log import _write_lines
from modeler.service.predictor import Predictor
from modeler.train.confidence import measure_intervals
from modeler.train.metrics import score_answers

KINDS = ["two", "several", "numbers", "booleans", "values"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Make a model of each kind once, as the gate leaves it in the store; it and its table."""
    made = {}

    def make(kind):
        if kind not in made:
            folder, table = tmp_path_factory.mktemp(kind), make_table(kind)
            model = store_model(folder, kind)
            contract, truth = model.read("contract.json"), table.frame["y"].tolist()
            answers = Predictor(model, 1000).graph.answer(raw_records(table.frame.drop(columns="y")))
            write_json(folder / "metrics.json", score_answers(answers, truth, contract["target"]))
            write_json(folder / "verdict.json", {"intervals": measure_intervals(answers, truth, contract["target"])})
            write_json(folder / "provenance.json", {"parameters": {"eda.ipynb": {}}})
            write_text(folder / "model.yaml", f"name: made\nversion: {content_version(folder)}\n")
            heldout = np.zeros(len(truth), dtype=bool)
            write_reference(folder, Candidate(model.version, contract, table, heldout, [], truth, answers))
            made[kind] = StoredModel(model.tag, folder), table
        return made[kind]

    return make


def write_log(folder, model, frame, days=20, broken=()):
    """A log of a table's rows over some days, a request of one row each, as the service writes it."""
    predictor, lines = Predictor(model, 10_000), []
    names = [feature["name"] for feature in used_features(predictor.contract)]
    body = json.dumps(raw_records(frame[names]), default=str).encode()
    answer = predictor.answer(body)
    for number, line in enumerate(_write_lines(predictor, "id", answer).splitlines()):
        moment = pd.Timestamp("2026-11-01") + pd.Timedelta(days=days) * number / len(frame)
        lines.append(json.dumps(json.loads(line) | {"time": f"{moment.isoformat()}+00:00", "request_id": f"r{number}", "row": 0}))
    path = folder / model.name / "2026-11-01T00-host-7.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, *broken, ""]), "utf-8")
    return folder, path


def judge(rows, model, metrics=None):
    found = compare_rows(rows, model)
    return judge_drift(rows, found, metrics)[0], found


def sample(table, rows, seed=0):
    return table.frame.sample(rows, replace=True, random_state=seed).reset_index(drop=True)


@pytest.mark.parametrize("kind", KINDS)
def test_log_and_table_hold_the_same_rows_and_answers(models, tmp_path, kind):
    model, table = models(kind)
    frame = sample(table, 150)
    log = read_log(write_log(tmp_path, model, frame)[0], model)
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for given in (read_table(tmp_path / "rows.parquet", model), read_table(tmp_path / "rows.csv", model)):
        assert given.values.keys() == log.values.keys() != set()
        for name, values in log.values.items():
            np.testing.assert_array_equal(given.values[name], values, err_msg=name)
        np.testing.assert_allclose(given.outputs, log.outputs, atol=1e-6)
        target = model.read("contract.json")["target"]
        answers = log.list_answers(np.arange(150), target)
        assert [set(answer) for answer in answers[:1]] == [{"value"} if kind == "values" else {"label", "probabilities"}]
        assert answers == Predictor(model, 200).graph.answer(raw_records(frame.drop(columns="y")))
        assert read_truth(given.truth, target, "rows") == frame["y"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_like_those_of_training_are_steady_and_scored(models, tmp_path, kind):
    model, table = models(kind)
    frame = sample(table, 300)
    rows = read_log(write_log(tmp_path, model, frame)[0], model)
    pd.DataFrame({"request_id": [f"r{n}" for n in range(300)], "y": frame["y"]}).to_csv(tmp_path / "labels.csv", index=False)
    positions, truth, notes = read_labels(tmp_path / "labels.csv", rows, model)
    assert positions.tolist() == list(range(300)) and notes == []
    assert truth == frame["y"].tolist()
    metrics = score_labels(rows, positions, truth, model)
    assert judge(rows, model, metrics)[0] == "steady"
    first = metrics["mae" if kind == "values" else "roc_auc"]
    assert first["low"] <= first["value"] <= first["high"] and not first["worse"]
    assert first["held_out"] == read_json(model.path / "metrics.json")["mae" if kind == "values" else "roc_auc"]


def shift_number(frame):
    frame.loc[150:, "mean area (mm²)"] += 800


def shift_category(frame):
    frame.loc[150:, "1st colour"] = "red"


def lose_values(frame):
    frame.loc[150:, "mean area (mm²)"] = np.nan


def invent_category(frame):
    frame.loc[150:, "1st colour"] = "violet"


def flip_boolean(frame):
    frame.loc[150:, "flag?"] = True


@pytest.mark.parametrize("change, name, share", [
    (shift_number, "mean area (mm²)", "outside"), (shift_category, "1st colour", None), (lose_values, "mean area (mm²)", "missing"),
    (invent_category, "1st colour", "outside"), (flip_boolean, "flag?", None),
])  # fmt: skip
def test_column_that_changed_is_found_with_the_day_on_which_it_did(models, tmp_path, change, name, share):
    model, table = models("two")
    change(frame := sample(table, 300))
    verdict, found = judge(read_log(write_log(tmp_path, model, frame)[0], model), model)
    assert verdict == "drifted"
    assert found["columns"][0] | {"drifted": True, "since": "2026-11-11"} == found["columns"][0]
    assert found["columns"][0]["name"] == name
    assert [one["name"] for one in found["columns"] if one["drifted"]] == [name]
    assert share is None or found["columns"][0][share] > 0.2


def test_shift_within_three_days_is_dated_by_the_hour(models, tmp_path):
    model, table = models("two")
    shift_number(frame := sample(table, 300))
    _, found = judge(read_log(write_log(tmp_path, model, frame, days=2)[0], model), model)
    assert found["columns"][0]["since"] == "2026-11-02T00"


def test_answers_that_something_else_gave_are_found(models, tmp_path):
    model, table = models("two")
    folder, path = write_log(tmp_path, model, sample(table, 300))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["answer"]["probabilities"] = {"no": 0.3, "yes": 0.7}
    path.write_text("\n".join(map(json.dumps, lines)))
    verdict, found = judge(read_log(folder, model), model)
    assert verdict == "drifted"
    assert not any(one["drifted"] for one in found["columns"]) and all(one["drifted"] for one in found["answers"])


def test_few_rows_are_too_few_however_odd(models, tmp_path):
    model, table = models("two")
    frame = sample(table, FEWEST_ROWS - 1)
    frame["1st colour"] = "violet"
    rows = read_log(write_log(tmp_path, model, frame)[0], model)
    verdict, reasons = judge_drift(rows, compare_rows(rows, model), None)
    assert (verdict, reasons) == ("too few", ["99 rows are too few to say; from 100 rows on they are compared"])


def test_wrong_labels_are_clearly_worse_and_drift_of_their_own(models, tmp_path):
    model, table = models("two")
    frame = sample(table, 300)
    rows = read_log(write_log(tmp_path, model, frame)[0], model)
    wrong = frame["y"].where(frame.index % 3 > 0, frame["y"].map({"no": "yes", "yes": "no"}))
    metrics = score_labels(rows, np.arange(300), wrong.tolist(), model)
    verdict, reasons = judge_drift(rows, compare_rows(rows, model), metrics)
    assert verdict == "drifted" and metrics["roc_auc"]["worse"] and metrics["log_loss"]["worse"]
    assert any(reason.startswith("roc_auc is 0.") and "clearly worse than" in reason for reason in reasons)


def test_score_is_worse_only_beyond_the_margin_and_beyond_chance(models, tmp_path):
    model, table = models("values")
    rows = read_log(write_log(tmp_path, model, sample(table, 300))[0], model)
    answers, rng = rows.outputs[:, 0], np.random.default_rng(0)
    then = read_json(model.path / "metrics.json")["mae"]
    for times, worse in ((1, False), (1.005, False), (3, True)):
        metrics = score_labels(rows, np.arange(300), (answers + times * then * rng.choice([-1, 1], 300)).tolist(), model)
        assert metrics["mae"]["worse"] == worse, times


def test_broken_lines_and_rows_of_other_versions_are_left_out_and_counted(models, tmp_path):
    model, table = models("several")
    folder, path = write_log(tmp_path, model, sample(table, 120))
    good = path.read_text().splitlines()
    other, strange = json.loads(good[0]) | {"model": "made:0123456789abcdef"}, json.loads(good[1])
    strange["features"]["<odd>"] = {"a": [1]}
    lost, foreign = json.loads(good[2]), json.loads(good[3])
    del lost["answer"]
    foreign["answer"]["label"] = "none"
    broken = [good[4][:60], "{}", "null", "[1]", '{"time": 7}', "\x00", json.dumps(lost), json.dumps(foreign), good[5][:-1]]
    path.write_text("\n".join([json.dumps(strange), json.dumps(other), *good[2:60], *broken, *good[60:]]))
    rows = read_log(folder, model)
    assert len(rows) == 119
    assert rows.notes == (
        "broken lines, as a crash leaves them, are left out: 9",
        "rows that made:0123456789abcdef answered are left out: 1; `pipeline.py monitor made:0123456789abcdef` looks at them",
        "columns that the contract does not know are left out: <odd>",
    )


def test_log_is_read_in_blocks_and_by_time(models, tmp_path, monkeypatch):
    model, table = models("two")
    folder, path = write_log(tmp_path, model, sample(table, 200))
    whole = read_log(folder, model)
    monkeypatch.setattr("modeler.monitor.rows.BLOCK", 700)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[::2]))
    path.with_name("other.jsonl").write_text("".join(lines[1::2]).rstrip())
    os.mkfifo(path.with_name("pipe.jsonl"))  # which is not waited for
    parts = read_log(folder, model)
    assert parts.keys.equals(whole.keys) and (parts.times == whole.times).all() and (parts.outputs == whole.outputs).all()
    some = read_log(folder, model, read_moment("2026-11-03"), read_moment("2026-11-04T01:00+01:00"))
    assert len(some) == 10 and some.times.min() == np.datetime64("2026-11-03")


def test_folder_without_a_log_of_the_model_is_told_with_those_it_has(models, tmp_path):
    model, table = models("two")
    with pytest.raises(ModelerError, match="none holds no prediction log of made; give the folder of `bentoml serve --arg log=FOLDER`"):
        read_log(tmp_path / "none", model)
    folder, path = write_log(tmp_path, model, sample(table, 100))
    assert len(read_log(path.parent, model)) == 100
    path.parent.rename(folder / "orders")
    with pytest.raises(ModelerError, match="holds no prediction log of made; it has logs of orders; give the folder"):
        read_log(folder, model)


def test_empty_log_is_too_few_and_the_notebook_says_so(models, tmp_path):
    model, _ = models("two")
    (tmp_path / "log" / "made").mkdir(parents=True)
    told = {"model": str(model.path), "log": str(tmp_path / "log"), "out": str(tmp_path)}
    run_cells(told, notebook="monitor.ipynb", then=lambda: plt.close("all"))
    report = read_json(tmp_path / "drift.json")
    assert (report["verdict"], report["rows"], report["metrics"], report["since"]) == ("too few", 0, None, None)


LABELS = {
    "no target": ({"request_id": ["r1"], "what": ["no"]}, "lacks 'y', the column of what came true; it has request_id, what"),
    "no key": ({"id": ["r1"], "y": ["no"]}, "has no column that names a row; give one of request_id, row beside 'y'"),
    "row alone": ({"row": [0], "y": ["no"]}, "has no column that names a row"),
    "no match": ({"request_id": ["x", "y"], "y": ["no", "no"]}, "none of the 2 labels of .* finds a row by request_id, such as 'x'"),
    "twice": ({"request_id": ["r1", "r1"], "y": ["no", "yes"]}, "has two labels for request_id 'r1'; keep the right one"),
    "class": ({"request_id": ["r1"], "y": ["perhaps"]}, "has 'perhaps' as 'y', which is none of the classes no, yes"),
}  # fmt: skip


@pytest.mark.parametrize("content, sentence", LABELS.values(), ids=LABELS)
def test_labels_that_cannot_be_used_are_one_sentence(models, tmp_path, content, sentence):
    model, table = models("two")
    rows = read_log(write_log(tmp_path, model, sample(table, 100))[0], model)
    for name in ("labels.csv", "labels.parquet"):
        frame = pd.DataFrame(content)
        frame.to_csv(tmp_path / name, index=False) if name.endswith("csv") else frame.to_parquet(tmp_path / name)
        with pytest.raises(ModelerError, match=sentence):
            read_labels(tmp_path / name, rows, model)


def test_labels_of_a_request_with_several_rows_need_the_row(models, tmp_path):
    model, table = models("two")
    folder, path = write_log(tmp_path, model, sample(table, 100))
    lines = [json.loads(line) | {"request_id": f"r{n // 2}", "row": n % 2} for n, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(map(json.dumps, lines)))
    rows, labels = read_log(folder, model), tmp_path / "labels.csv"
    labels.write_text("request_id,y\nr7,no\n")
    with pytest.raises(ModelerError, match="labels request 'r7', which has several rows; give the column 'row' too"):
        read_labels(labels, rows, model)
    labels.write_text("request_id,row,y\nr7,1,no\nr8,0,yes\nr99,0,no\nr9,0,\n")
    positions, truth, notes = read_labels(labels, rows, model)
    assert (positions.tolist(), truth, notes) == ([15, 16], ["no", "yes"], ["1 of 3 labels find no row"])


def test_ids_with_leading_zeros_find_their_rows_in_a_table(models, tmp_path):
    model, table = models("numbers")
    frame = sample(table, 60).assign(id=[f"{n:03d}" for n in range(60)])
    frame.drop(columns="y").to_csv(tmp_path / "rows.csv", index=False)
    frame[["id", "y"]][::-1].to_csv(tmp_path / "labels.csv", index=False)
    rows = read_table(tmp_path / "rows.csv", model)
    positions, truth, _ = read_labels(tmp_path / "labels.csv", rows, model)
    assert positions.tolist() == list(range(59, -1, -1)) and truth == frame["y"][::-1].tolist()


TABLES = {
    "a column is missing": (lambda frame: frame.drop(columns="class"), r"lacks 'class', which the model uses; give all of"),
    "a name is near": (lambda frame: frame.rename(columns={"1st colour": "1st color"}), r"\(did you mean '1st color'\?\)"),
    "nothing of it": (lambda frame: frame[["y"]].assign(other=1), "or what `score` wrote of them with --keep all"),
    "a text": (lambda frame: frame.astype(object).replace({"class": {3: "three"}}), "makes 'class' a number, and 'three' in row"),
}  # fmt: skip


@pytest.mark.parametrize("change, sentence", TABLES.values(), ids=TABLES)
def test_table_that_does_not_fit_is_one_sentence(models, tmp_path, change, sentence):
    model, table = models("two")
    change(sample(table, 100)).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ModelerError, match=sentence):
        read_table(tmp_path / "rows.csv", model)


def test_times_of_a_table_choose_its_rows_and_without_them_none_can_be_chosen(models, tmp_path):
    model, table = models("two")
    frame = sample(table, 100).assign(time=pd.Timestamp("2026-11-01") + pd.to_timedelta(range(100), "h"))
    frame.to_parquet(tmp_path / "rows.parquet")
    assert len(read_table(tmp_path / "rows.parquet", model, read_moment("2026-11-02"), read_moment("2026-11-03"))) == 24
    frame.drop(columns="time").to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ModelerError, match="has no dates in a column 'time', so its rows have no time; leave out since and until"):
        read_table(tmp_path / "rows.parquet", model, read_moment("2026-11-02"))


@pytest.mark.parametrize("kind", ["two", "values"])
def test_what_score_wrote_is_compared_by_its_answers(models, tmp_path, kind):
    model, table = models(kind)
    answers = Predictor(model, 1000).graph.answer(raw_records(sample(table, 200).drop(columns="y")))
    if kind == "two":
        columns = {f"probability:{key}": [answer["probabilities"][key] for answer in answers] for key in ("no", "yes")}
        columns["label"] = [answer["label"] for answer in answers]
    else:
        columns = {"value": [answer["value"] for answer in answers]}
    pd.DataFrame(columns | {"warnings": 0}).to_csv(tmp_path / "scored.csv", index=False)
    rows = read_table(tmp_path / "scored.csv", model)
    assert rows.notes == ("the file has answers alone; `score --keep all` keeps the columns to compare them too",)
    assert rows.list_answers(np.arange(200), model.read("contract.json")["target"]) == answers
    verdict, found = judge(rows, model)
    assert verdict == "steady" and found["columns"] == [] and len(found["answers"]) == len(columns) - (kind == "two")


def test_reference_of_an_older_model_is_missing_and_the_sentence_says_how_to_get_one(models, tmp_path):
    model, table = models("two")
    rows = read_log(write_log(tmp_path, model, sample(table, 100))[0], model)
    with pytest.raises(ModelerError, match="has no reference.json, so nothing can be compared: .*; retrain on the same data"):
        compare_rows(rows, StoredModel(model.tag, tmp_path))


@pytest.mark.medium
@pytest.mark.parametrize("columns, rows", [(5, 200), (60, 200), (60, 5000)])
def test_report_on_rows_that_did_not_drift_is_steady(columns, rows):
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        described = [{"type": "number", **describe_column(rng.normal(size=600), "number")} for _ in range(columns)]
        counted = {n: (count_values(rng.normal(size=rows), column), list_counts(column)) for n, column in enumerate(described)}
        wrong += any(drift.drifted for drift in compare_counts(counted).values())
    assert wrong <= 2, "steady in at least 95 of 100 cases"


@pytest.mark.medium
def test_one_of_thirty_columns_shifted_by_half_a_standard_deviation_is_found_in_500_rows():
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        described = [{"type": "number", **describe_column(rng.normal(size=600), "number")} for _ in range(30)]
        counted = {
            n: (count_values(rng.normal(0.5 * (n == 7), size=500), column), list_counts(column)) for n, column in enumerate(described)
        }
        found += compare_counts(counted)[7].drifted
    assert found >= 38


def test_start_is_the_period_that_makes_the_counts_likeliest():
    days = np.arange("2026-11-01", "2026-11-11", dtype="datetime64[D]")
    expected, usual, odd = np.array([500, 500, 0]), [5, 5, 0], [1, 9, 0]
    for start in (0, 3, 9):
        counts = np.array([odd if day >= start else usual for day in range(10)])
        assert find_start(days, counts, expected) == str(days[start])


def test_notebook_looks_at_values_with_intervals_and_days_too(models, tmp_path):
    model, table = models("values")
    shift_number(frame := sample(table, 300))
    write_log(tmp_path / "log", model, frame)
    pd.DataFrame({"request_id": [f"r{n}" for n in range(300)], "y": frame["y"]}).to_csv(tmp_path / "labels.csv", index=False)
    told = {"model": str(model.path), "log": str(tmp_path / "log"), "labels": str(tmp_path / "labels.csv"), "out": str(tmp_path)}
    run_cells(told, notebook="monitor.ipynb", then=lambda: plt.close("all"))
    report = read_json(tmp_path / "drift.json")
    assert report["verdict"] == "drifted" and report["metrics"].keys() == {"r2", "mae", "rmse"}
    assert list(report) == ["model", "rows", "since", "until", "verdict", "reasons", "notes", "columns", "answers", "metrics"]
    assert list(report["columns"][0]) == ["name", "psi", "p_value", "drifted", "since", "missing", "outside"]


def test_example_is_drifted_in_the_column_that_it_shifts(tmp_path):
    model, log, labels = make_example(tmp_path)
    rows = read_log(log, open_model(model))
    _, found = judge(rows, open_model(model))
    assert [(one["name"], one["since"]) for one in found["columns"] if one["drifted"]] == [("mean texture", "2026-11-06")]
    assert read_labels(labels, rows, open_model(model))[2] == []


@pytest.mark.slow
def test_command_reports_on_a_log_and_leaves_the_store_as_it_was(retrained, tmp_path):
    project, result = copy_of(retrained, tmp_path), retrained[1]
    project.settings = {}  # so that the plots are drawn
    name, version = result["model"].split(":")
    model = StoredModel(result["model"], project.store / "models" / name / version)
    frame = load_table("breast_cancer").frame
    folder, _ = write_log(tmp_path / "log", model, frame)
    frame.assign(request_id=[f"r{n}" for n in range(len(frame))])[["request_id", "diagnosis"]].to_csv(tmp_path / "came true.csv")
    before = hash_store(project.store)
    words = ["monitor", "--log", folder, "--labels", tmp_path / "came true.csv", "--json"]
    done = project.command("pipeline.py", *words, "--since", "2026-11-01")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == read_json(Path(report["run"], "drift.json")) | {"run": report["run"]}
    assert (report["model"], report["rows"], report["verdict"]) == (result["model"], len(frame), "steady")
    page = Path(report["run"], "monitor.html").read_text("utf-8")
    assert page.count("data:image/png;base64") >= 6
    executed = Path(report["run"], "monitor.ipynb").read_text()
    assert str(project.folder) not in executed and str(tmp_path) not in executed
    frame["mean texture"] += 5
    write_log(tmp_path / "log", model, frame)
    done = project.command("pipeline.py", "monitor", "--log", folder)
    assert done.returncode == 4, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{result['model']} drifted: 569 rows, 2026-11-01T00:00:00Z to 2026-11-20T")
    assert lines[1].startswith("  because    column 'mean texture' drifted: PSI ") and lines[-1].endswith("/monitor.html")
    assert hash_store(project.store) == before


def hash_store(store):
    return {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}


OPTIONS = {
    "no rows": ([], 2, "looks at the rows of either --log FOLDER or --data FILE; give one of them"),
    "two kinds of rows": (["--log", ".", "--data", "x.csv"], 2, "give one of them"),
    "no file": (["--data", "none.csv"], 2, "--data none.csv: there is no such file"),
    "no labels": (["--log", ".", "--labels", "none.csv"], 2, "--labels none.csv: there is no such file"),
    "no time": (["--log", ".", "--since", "yesterday"], 2, "--since: 'yesterday' is no time; give one such as 2026-11-01"),
    "no span": (["--log", ".", "--since", "2026-11-02", "--until", "2026-11-02"], 2, "--since 2026-11-02 is not before --until"),
    "no model": (["orders", "--log", "."], 1, "there is no model orders in the store"),
}  # fmt: skip


@pytest.mark.parametrize("words, status, sentence", OPTIONS.values(), ids=OPTIONS)
def test_wrong_use_is_one_sentence_before_any_kernel(typed, words, status, sentence):
    done = typed("monitor", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr and done.stderr.count("\n") == 1
