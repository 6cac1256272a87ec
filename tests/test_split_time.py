"""The split by time: the boundary, the folds, what the gate compares on, and what cannot be split."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from cells import HERE, run_cells
from conftest import QUICK
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from modeler import ModelerError
from modeler.data.copies import find_copies
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import check_split, find_rare, split_rows
from modeler.data.tables import Table, load_table
from modeler.data.timeline import describe_split, find_boundary, find_later, note_time, order_rows, write_boundary
from modeler.gate.judge import judge_candidate
from modeler.model.contract import read_json, read_split
from modeler.model.stored import StoredModel, content_version
from modeler.runs.provenance import describe_provenance
from modeler.train.folds import deal_folds

BEFORE = {"share": 0.2, "split_by": "patient"}


def make_orders(rows: int, seed: int = 0, target: str = "y") -> pd.DataFrame:
    """One order every six hours from 2024 on, with a customer, in no order of time."""
    rng = np.random.default_rng(seed)
    amount, weight = rng.normal(size=(2, rows))
    frame = pd.DataFrame({
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows) * 6, "h"),
        "amount": amount,
        "weight": weight,
        "customer": np.arange(rows) // 4 + rng.integers(3, size=rows),
        target: np.where(amount + weight + rng.normal(scale=0.5, size=rows) > 0, "yes", "no"),
    })  # fmt: skip
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def as_dates(values) -> pd.Series:
    return pd.Timestamp("2024-02-27") + pd.to_timedelta(pd.Series(values, dtype="float64"), "D")


# --- the boundary

ROWS = st.lists(st.tuples(st.none() | st.integers(0, 6), st.none() | st.integers(0, 9)), min_size=2, max_size=40)


@pytest.mark.medium
@settings(max_examples=200, deadline=None)
@given(rows=ROWS, share=st.sampled_from([0.05, 0.2, 0.5]), grouped=st.booleans(), dated=st.booleans())
def test_nothing_trained_on_is_later_than_the_boundary_and_nothing_stands_on_both_sides(rows, share, grouped, dated):
    times = as_dates([time for time, _ in rows]) if dated else pd.Series([time for time, _ in rows], dtype="float64")
    frame, by = pd.DataFrame({"t": times, "group": [group for _, group in rows]}), "group" if grouped else ""
    try:
        heldout = split_rows(frame, share, by, "t")
    except ModelerError:
        places = order_rows(frame, by, "t")
        assert 2 * times.isna().sum() > len(frame) or places.nunique() < 2
        return
    boundary = find_boundary(frame, share, by, "t")
    assert not (times[~heldout] >= boundary).any() and heldout[times >= boundary].all()
    places = order_rows(frame, by, "t")
    assert heldout.any() and not heldout[places.notna()].all()
    sides = frame.assign(heldout=heldout).groupby(by or "t", dropna=bool(not by))["heldout"].nunique()
    assert (sides == 1).all()
    if not grouped:
        assert not heldout[times.isna()].any()
    others = [(places >= other).mean() for other in places.dropna().unique() if other > places.min()]
    assert abs(heldout.mean() - share) <= min(abs(other - share) for other in others) + 1e-9


@settings(max_examples=100, deadline=None)
@given(old=st.lists(st.integers(0, 50), min_size=2, max_size=40), new=st.lists(st.integers(50, 60), max_size=40))
def test_rows_trained_on_still_are_when_later_rows_come(old, new):
    if len(set(old)) < 2:
        return
    before = split_rows(pd.DataFrame({"t": old}), 0.2, "", "t")
    grown = split_rows(pd.DataFrame({"t": new + old}), 0.2, "", "t")
    assert not grown[len(new) :][~before].any()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(-(2**62), 2**62), min_size=1) | st.lists(st.floats(-1e30, 1e30), min_size=1)
    | st.lists(st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01")), min_size=1)
)  # fmt: skip
@example(values=[2**60, 2**60 + 1])
def test_boundary_reads_as_it_was_written(values):
    frame = pd.DataFrame({"t": values})
    for boundary in frame["t"].unique()[:5]:
        boundary = pd.Timestamp(boundary) if frame["t"].dtype.kind == "M" else boundary
        later = find_later(frame, "t", write_boundary(boundary))
        assert np.array_equal(later, (frame["t"] >= boundary).to_numpy())


@pytest.mark.parametrize(
    ("times", "written"),
    [
        (pd.date_range("2026-02-01", periods=10), "2026-02-09"),
        (pd.date_range("2026-02-01 14:30", periods=10, freq="h"), "2026-02-01T22:30:00Z"),
        (pd.date_range("2026-02-01 00:30", periods=10, tz="Europe/Paris"), "2026-02-08T23:30:00Z"),
        ([2011, 2012, 2013, 2014, 2015, 2016, 2017, 2018, 2019, 2020], "2019"),
        ([2011, 2012, 2013, 2014, 2015, 2016, 2017, 2018, 2019, None], "2018"),
        (np.arange(10) / 4, "2.0"),
        ([1, 1, 1, 1, 2, 2, 2, 2, 2, 2], "2"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 8, 8], "8"),
    ],
)
def test_boundary_is_noted_as_a_text(times, written):
    table = Table("made", pd.DataFrame({"day": times, "y": np.arange(10.0)}), "y")
    split = describe_split(table, 0.2, "", "day")
    assert split == {"by": None, "time": "day", "boundary": "2" if written == "2.0" else written, "share": 0.2}
    heldout = split_rows(table.frame, 0.2, "", "day")
    assert np.array_equal(heldout, find_later(table.frame, "day", split["boundary"]))
    assert list(split) == ["by", "time", "boundary", "share"]


def test_group_with_one_late_row_is_held_out_whole():
    frame = pd.DataFrame({"customer": list("aabbccdde") + [None], "t": [1, 9, 2, 3, 4, 4, 5, 6, 7, 1]})
    assert find_boundary(frame, 0.2, "customer", "t") == 9
    assert split_rows(frame, 0.2, "customer", "t").tolist() == [True, True] + [False] * 8
    frame.loc[0, "t"] = None  # it goes with its group
    assert split_rows(frame, 0.2, "customer", "t").tolist() == [True, True] + [False] * 8


@pytest.mark.parametrize(
    ("changes", "by", "time", "sentence"),
    [
        ({}, "", "days", r"--split-time 'days' is not a column \(did you mean 'day'\?\); the columns are day, amount"),
        ({}, "customr", "day", r"--split-by 'customr' is not a column \(did you mean 'customer'\?\)"),
        ({}, "", "y", "--split-time 'y' holds texts, .* such as a year; -p columns=\"y=date:%d/%m/%Y\" reads texts as dates"),
        ({"paid": True}, "", "paid", "--split-time 'paid' holds booleans, and it must hold dates, or numbers .* as a year$"),
        ({"day": pd.Timestamp("2026-03-01")}, "", "day", "'day' is 2026-03-01 in every row, so no row is later; name"),
        ({"year": 2026}, "customer", "year", "'year' is 2026 in every row, so no row is later; name another column"),
        ({"customer": 1}, "customer", "day", "every 'customer' has its latest row at 2024-04-09T18:00:00Z by 'day', so none"),
        ({"year": [None] * 201 + [2025.0, 2026] * 99 + [1.0]}, "", "year", "'year' is missing in 201 of 400 rows; name"),
    ],
)  # fmt: skip
def test_column_that_cannot_place_the_rows_is_named_with_what_to_do(changes, by, time, sentence):
    with pytest.raises(ModelerError, match=sentence):
        split_rows(make_orders(400).assign(**changes), 0.2, by, time)


def test_target_cannot_place_the_rows():
    table = Table("orders", make_orders(40), "amount")
    with pytest.raises(ModelerError, match="--split-time amount: this is the target; name a column such as a date"):
        describe_split(table, 0.2, "", "amount")


def test_class_that_is_absent_on_one_side_is_named_with_the_ways_on():
    frame = make_orders(400)
    late = Table("orders", frame.assign(y=frame["y"].where(frame["day"] >= "2024-03-21", "old")), "y", "classification")
    heldout = split_rows(late.frame, 0.2, "", "day")
    with pytest.raises(ModelerError, match="class 'no' of 'y' has 0 rows to train on .* are the latest by 'day', random"):
        check_split(late, heldout, "day")
    with pytest.raises(ModelerError, match="change holdout with -p holdout=0.3$"):
        check_split(late, heldout)


def test_rare_classes_are_dropped_until_the_boundary_leaves_none():
    """Without the rows of `x`, all late, the boundary moves back past the training rows of `z`."""
    frame = pd.DataFrame({"t": range(100), "y": ["a", "b"] * 50}).astype({"y": object})
    frame.loc[85:, "y"] = "x"
    frame.loc[[71, 72, 73, 74, 75, 84], "y"] = "z"
    table = Table("made", frame, "y", "classification")
    assert list(find_rare(table, split_rows(frame, 0.2, "", "t"))) == ["x"]
    settled = settle_rare_classes(table, "drop", 0.2, "", "t")
    assert find_rare(settled, split_rows(settled.frame, 0.2, "", "t")) == {}
    assert settled.rare["classes"] == ["x", "z"] and settled.rare["rows"] == 21


def test_copies_are_never_on_both_sides_of_a_boundary():
    frame = make_orders(300)
    pasted = pd.concat([frame, frame.sample(100, random_state=1)], ignore_index=True)
    assert find_copies(pasted, split_rows(pasted, 0.2))[1]
    copied, warning = find_copies(pasted, split_rows(pasted, 0.2, "", "day"))
    assert warning is None and not copied.any()


# --- what is said of it


def test_boundary_and_rows_without_a_time_are_told():
    frame = make_orders(400)
    frame.loc[:11, "day"] = pd.NaT
    table, heldout = Table("orders", frame, "y"), split_rows(frame, 0.2, "", "day")
    held, missing = note_time(table, heldout, "", "day")
    boundary = describe_split(table, 0.2, "", "day")["boundary"]
    assert held == f"the rows at or after {boundary} by 'day' are held out, {heldout.sum()} of 400 rows"
    assert missing == "12 rows have no 'day' and cannot be placed; such rows are trained on"
    assert not heldout[:12].any()
    grouped = note_time(table, split_rows(frame, 0.2, "customer", "day"), "customer", "day")
    assert grouped[0].startswith("each 'customer' with a row at or after 2024-03-")
    assert grouped[1].endswith("; such rows are trained on, unless their 'customer' is held out")


def test_date_calls_for_a_split_by_time():
    frame = make_orders(40).assign(sent=pd.Timestamp("2024-01-01"), paid=pd.NaT)
    (note,) = note_time(Table("orders", frame, "y"), split_rows(frame, 0.2), "", "")
    assert note.startswith("day is a date: if the model shall answer rows later than these, --split-time 'day' holds out")
    (note,) = note_time(Table("orders", frame.assign(due=frame["day"]), "y"), split_rows(frame, 0.2), "", "")
    assert note.startswith("day, due are dates: ")
    assert note_time(Table("orders", frame[["amount", "y"]], "y"), split_rows(frame, 0.2), "", "") == []


@pytest.mark.parametrize(
    ("contract", "split"),
    [
        ({"holdout": BEFORE}, {"by": "patient", "time": None, "boundary": None, "share": 0.2}),
        ({"split": {"by": None}}, {"by": None}),
    ],
)
def test_split_is_read_of_models_of_before_too(contract, split):
    assert read_split(contract) == split


@pytest.mark.medium
def test_provenance_names_time_and_boundary(tmp_path):
    notebook = tmp_path / "eda.ipynb"
    notebook.write_text('{"cells": []}')
    table, told = Table("orders", make_orders(400), "y"), {"holdout": 0.2, "split_by": "", "split_time": "day"}
    parameters = {"eda.ipynb": told, "train.ipynb": {}}
    noted = describe_provenance(table, [notebook], parameters)["holdout"]
    assert noted == {"rule": "latest by day", "time": "day", "boundary": "2024-03-21", "share": 0.2, "rows": 80}
    noted = describe_provenance(table, [notebook], {**parameters, "eda.ipynb": told | {"split_by": "customer"}})
    assert noted["holdout"]["rule"] == "latest by day, with all rows of each customer"
    del told["split_time"]  # as models of before have it
    noted = describe_provenance(table, [notebook], parameters)["holdout"]
    assert noted["rule"] == "hash of the row and its occurrence number" and noted["boundary"] is None


# --- the folds


@pytest.mark.medium
@settings(max_examples=200, deadline=None)
@given(rows=ROWS, classes=st.booleans())
def test_fold_trains_on_nothing_as_late_as_what_it_tests(rows, classes):
    frame = pd.DataFrame(rows, columns=["t", "group"]).astype({"t": "float64"})
    times, labels = order_rows(frame, "group", "t"), np.arange(len(rows)) % 2
    folds = deal_folds(times, labels if classes else None)
    assert len(folds) != 1
    tested = np.concatenate([rows for _, rows in folds]) if folds else np.array([], int)
    assert len(np.unique(tested)) == len(tested) and not times[tested].isna().any()
    for train, test in folds:
        assert not (times[train] >= times[test].min()).any()
        assert not (frame["t"][train] >= times[test].min()).any()
        assert not set(frame["group"][train]) & set(frame["group"][test])
        assert np.isin(np.flatnonzero(times.isna()), train).all()
        assert len(train) >= 5 and (not classes or set(labels[train]) == set(labels[test]) == {0, 1})


def test_folds_of_different_times_are_those_of_scikit_learn():
    times = pd.Series(np.random.default_rng(0).permutation(103))
    places = np.argsort(times.to_numpy())
    expected = [(np.sort(places[train]), np.sort(places[test])) for train, test in TimeSeriesSplit(5).split(places)]
    for (train, test), (their_train, their_test) in zip(deal_folds(times), expected, strict=True):
        assert np.array_equal(train, their_train) and np.array_equal(test, their_test)


def test_fold_without_a_class_is_left_out():
    times, labels = pd.Series(range(60)), np.array(["a", "b"] * 15 + ["a"] * 10 + ["a", "b"] * 10)
    assert [test.min() for _, test in deal_folds(times, labels)] == [10, 20, 40, 50]
    assert len(deal_folds(times)) == 5
    assert deal_folds(times, np.array(["a"] * 50 + ["b"] * 10)) == []


# --- the notebooks and the gate, run here without a kernel

TOLD = {"holdout": 0.2, "split_by": "", "split_time": "day", "positive": "", "threshold": "auto"}


def train(folder, monkeypatch, frame, **told):
    """A run's folder as eda.ipynb and train.ipynb leave it, the table, and the names that train.ipynb sets."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    frame.to_parquet("orders.parquet")
    shared = {"data": "orders.parquet", "out": "."}
    told = TOLD | told
    eda = {name: told[name] for name in ("holdout", "split_by", "split_time")}
    looked = shared | eda | {"target": "y", "min_association": "0", "leave_out": told.get("leave_out", "")}
    run_cells(looked, 'write_json(f"{out}/contract.json"', notebook="eda.ipynb")
    model = shared | {"estimator": "logistic_regression", "threshold": told["threshold"]}
    names = run_cells(model, 'print("wrote contract.json')
    return folder, load_table("orders.parquet", "y"), names


@pytest.fixture(scope="module")
def then(tmp_path_factory):
    """The run of 400 orders, for tests that only read it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return train(tmp_path_factory.mktemp("time") / "then", monkeypatch, make_orders(400))[0]


def judge(run, table, champion=None, **told):
    model = champion and StoredModel(f"orders:{content_version(champion)}", champion)
    return judge_candidate(run, table, TOLD | told, {}, {}, model)


def compare(judgement):
    return next(check for check in judgement.checks if check.name.endswith("the champion") and "caller" not in check.name)


@pytest.mark.medium
@pytest.mark.parametrize("by", ["", "customer"])
def test_notebooks_split_and_validate_in_time_and_the_gate_holds_them_to_it(tmp_path, monkeypatch, capsys, by):
    frame = make_orders(400)
    frame.loc[:4, "day"] = pd.NaT
    run, table, names = train(tmp_path / "run", monkeypatch, frame, split_by=by)
    told = capsys.readouterr().out
    assert "5 rows have no 'day' and cannot be placed" in told and "folds in time: 5" in told
    assert read_json(run / "contract.json")["split"] == describe_split(table, 0.2, by, "day")
    assert read_json(run / "metrics.json")["cv"]["folds"] == 5
    times = order_rows(table.frame, by, "day")[~names["heldout"]].to_numpy()
    tested = names["tested"]
    assert len(names["guessed"]) == len(names["is_positive"]) == len(tested) < len(times)
    assert times[tested].min() > np.sort(times)[len(times) // 7]
    assert judge(run, table, split_by=by).passed
    for other in ({"split_time": ""}, {"split_by": "weight"}, {"holdout": 0.3}):
        (check,) = judge(run, table, **{"split_by": by} | other).checks
        assert check.sentence.startswith("the candidate cannot be judged: the contract deals rows by {'by': ")
    contract = read_json(run / "contract.json")
    (run / "contract.json").write_text(json.dumps(contract | {"split": contract["split"] | {"boundary": "2024-03-01"}}))
    assert "'boundary': '2024-03-01'" in judge(run, table, split_by=by).reasons[0]


@pytest.mark.medium
def test_folds_are_random_where_fewer_than_two_follow_time(tmp_path, monkeypatch, capsys):
    frame = make_orders(200)
    frame["day"] = np.where(frame["day"] > "2024-02-10", 2025, 2024)
    _, _, names = train(tmp_path / "run", monkeypatch, frame)
    assert "folds in time: fewer than two, so they are drawn at random" in capsys.readouterr().out
    assert len(names["guessed"]) == (~names["heldout"]).sum()


@pytest.mark.medium
def test_champion_is_compared_on_rows_later_than_both_boundaries(tmp_path, monkeypatch, then):
    grown = pd.concat([make_orders(600, seed=1).query("day > '2024-04-09'"), make_orders(400)], ignore_index=True)
    run, table, names = train(tmp_path / "now", monkeypatch, grown)
    boundaries = [read_json(folder / "contract.json")["split"]["boundary"] for folder in (then, run)]
    assert boundaries == ["2024-03-21", "2024-04-29T18:00:00Z"]
    judgement = judge(run, table, then)
    rows = f"on {names['heldout'].sum()} held-out rows that neither trained on, at or after the champion's boundary 2024-03-21"
    assert judgement.passed and rows in compare(judgement).sentence
    back = shutil.copytree(then, tmp_path / "back")  # the data lost their latest rows
    judgement = judge(back, load_table(str(back / "orders.parquet"), "y"), run)
    told = "there are 0 held-out rows that neither trained on, at or after the champion's boundary 2024-04-29T18:00:00Z by 'day', "
    assert told + "and a comparison needs 10; bring more such rows, keep holdout" in compare(judgement).sentence


@pytest.mark.medium
def test_groups_of_before_that_grew_are_no_part_of_the_comparison(tmp_path, monkeypatch):
    """A customer who came back is held out now, and the champion trained on the earlier rows."""
    champion, before, _ = train(tmp_path / "then", monkeypatch, make_orders(400), split_by="customer")
    late = make_orders(600, seed=1).query("day > '2024-04-09'").assign(customer=lambda rows: rows["customer"] % 20)
    run, table, names = train(tmp_path / "now", monkeypatch, pd.concat([before.frame, late], ignore_index=True), split_by="customer")
    came_back = names["heldout"] & (table.frame["day"] < "2024-03-01").to_numpy()
    boundary = read_json(champion / "contract.json")["split"]["boundary"]
    both = names["heldout"] & (table.frame["day"] >= pd.Timestamp(boundary).tz_localize(None)).to_numpy()
    assert came_back.sum() > 20 and both.sum() < names["heldout"].sum()
    assert f"on {both.sum()} held-out rows that neither" in compare(judge(run, table, champion, split_by="customer")).sentence


@pytest.mark.medium
def test_champion_dealt_by_hash_is_asked_for_the_rows_held_out_by_both(tmp_path, monkeypatch):
    champion, table, _ = train(tmp_path / "then", monkeypatch, make_orders(1000), split_time="")
    run, _, names = train(tmp_path / "now", monkeypatch, make_orders(1000))
    both = names["heldout"] & split_rows(table.frame, 0.2)
    assert 10 <= both.sum() < names["heldout"].sum()
    assert f"on {both.sum()} held-out rows that neither trained on" in compare(judge(run, table, champion)).sentence
    contract = read_json(champion / "contract.json")
    contract["holdout"] = {"share": contract.pop("split")["share"], "split_by": None}  # as models of before have it
    (champion / "contract.json").write_text(json.dumps(contract))
    assert f"on {both.sum()} held-out rows that neither trained on" in compare(judge(run, table, champion)).sentence
    back = compare(judge(champion, table, run, split_time="")).sentence
    assert f"on {both.sum()} held-out rows that neither trained on, at or after the champion's boundary 2024-07-19" in back


@pytest.mark.medium
def test_champion_whose_time_is_gone_may_have_trained_on_the_rows(tmp_path, monkeypatch):
    then, _, _ = train(tmp_path / "then", monkeypatch, make_orders(400), leave_out="day")
    run, table, names = train(tmp_path / "now", monkeypatch, make_orders(400).drop(columns="day"), split_time="")
    sentence = compare(judge(run, table, then, split_time="")).sentence
    assert f"on {names['heldout'].sum()} held-out rows (the columns changed, so the champion may have trained on" in sentence


# --- the command line


@pytest.mark.medium
def test_retrain_on_data_that_grew_compares_on_the_latest_rows(project, typed):
    file = project.folder / "orders.parquet"
    options = ["--data", "orders.parquet", "--target", "y", "--split-time", "day", *QUICK, "--json"]
    make_orders(400).to_parquet(file)
    first = typed(*options)
    assert first.returncode == 0, first.stderr
    assert "the rows at or after 2024-03-21 by 'day' are held out, 80 of 400 rows" in first.stderr.partition(HERE)[0]
    grown = [make_orders(400), make_orders(600, seed=1).query("day > '2024-04-09'")]
    pd.concat(grown, ignore_index=True).to_parquet(file)
    second = typed(*options)
    assert second.returncode == 0, second.stdout
    then, now = json.loads(first.stdout), json.loads(second.stdout)
    assert then["verdict"] == now["verdict"] == "promoted" and then["model"] != now["model"]
    run = project.runs[-1]
    checks = {check["name"]: check["sentence"] for check in read_json(run / "verdict.json")["checks"]}
    assert "neither trained on, at or after the champion's boundary 2024-03-21 by 'day'" in checks["not worse than the champion"]
    assert read_json(run / "contract.json")["split"] == {"by": None, "time": "day", "boundary": "2024-04-29T18:00:00Z", "share": 0.2}
    assert read_json(run / "provenance.json")["holdout"]["time"] == "day"
    assert typed("verify", now["model"]).returncode == 0
