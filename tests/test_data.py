"""Tables: what is read, how rows are dealt, and how they are fingerprinted."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from modeler import ModelerError
from modeler.data.derive import derive_contract
from modeler.data.rows import hash_table, raw_records, split_rows
from modeler.data.tables import Table, load_table, slugify


@pytest.fixture(scope="module")
def cancer():
    return load_table("breast_cancer")


def test_breast_cancer_labels_are_those_of_scikit_learn(cancer):
    bunch = load_breast_cancer()
    assert cancer.frame["diagnosis"].tolist() == [bunch.target_names[code] for code in bunch.target]
    assert np.array_equal(cancer.frame.drop(columns="diagnosis").to_numpy(), bunch.data)


def test_holdout_keeps_its_rows_when_the_data_grow_and_are_shuffled(cancer):
    frame = cancer.frame
    before = split_rows(frame, 0.2)
    grown = pd.concat([frame.assign(**{"mean radius": frame["mean radius"] + 0.5}), frame], ignore_index=True)
    assert np.array_equal(split_rows(grown, 0.2)[len(frame) :], before)
    order = np.random.default_rng(0).permutation(len(frame))
    assert np.array_equal(split_rows(frame.iloc[order], 0.2), before[order])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_holdout_share_is_near_what_was_asked_for(cancer, share):
    rows = pd.concat([cancer.frame] * 10, ignore_index=True)
    assert abs(split_rows(rows, share).mean() - share) < 0.02


def test_equal_rows_are_dealt_to_both_sides():
    heldout = split_rows(pd.DataFrame({"a": [1] * 1000, "b": ["x"] * 1000}), 0.2)
    assert 0.15 < heldout.mean() < 0.25


def test_row_stays_on_its_side_when_a_new_row_changes_the_type_of_a_column():
    frame = pd.DataFrame({"count": range(200), "yes": [True, False] * 100})
    wider = pd.concat([frame, pd.DataFrame({"count": [0.5], "yes": [None]})], ignore_index=True)
    assert np.array_equal(split_rows(wider, 0.3)[:200], split_rows(frame, 0.3))


def test_split_by_keeps_groups_together():
    frame = pd.DataFrame({"patient": np.arange(2000) // 4, "value": np.arange(2000.0)})
    heldout = split_rows(frame, 0.2, "patient")
    assert (frame.assign(heldout=heldout).groupby("patient")["heldout"].nunique() == 1).all()
    assert 0.15 < heldout.mean() < 0.25


def test_split_by_unknown_column_names_the_nearest():
    with pytest.raises(ModelerError, match=r"--split-by 'patientt' is not a column \(did you mean 'patient'"):
        split_rows(pd.DataFrame({"patient": [1]}), 0.2, "patientt")


def test_hash_tells_values_names_and_order_apart():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    others = [
        frame.assign(a=[1, 3]),
        frame.rename(columns={"a": "c"}),
        frame[["b", "a"]],
        frame.iloc[::-1],
        frame.assign(b=["x", "y"]),
        frame.assign(a=[True, False]),
        frame.assign(a=["True", "False"]),
        frame.assign(b=['x", "y', "z"]),
        frame.assign(b=["x", 'y", "z']),
    ]
    assert len({hash_table(table) for table in [frame, *others]}) == 10
    assert hash_table(frame) == hash_table(frame.copy())


def test_raw_records_are_plain_and_missing_is_none(tmp_path):
    path = tmp_path / "Orders 2024.csv"
    path.write_text("n,price,paid,kind,y\n1,1.5,True,a,no\n2,,,,yes\n")
    table = load_table(str(path), "y")
    assert table.name == "orders_2024"
    assert raw_records(table.frame) == [
        {"n": 1, "price": 1.5, "paid": True, "kind": "a", "y": "no"},
        {"n": 2, "price": None, "paid": None, "kind": None, "y": "yes"},
    ]


def test_parquet_reads_like_csv(tmp_path):
    frame = pd.DataFrame({"n": [1, 2], "price": [1.5, None], "kind": ["a", None], "y": [True, False]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    parquet, csv = (load_table(str(tmp_path / name), "y").frame for name in ("t.parquet", "t.csv"))
    assert raw_records(parquet) == raw_records(csv)
    assert hash_table(parquet) == hash_table(csv)


@pytest.mark.parametrize(
    ("data", "target", "sentence"),
    [
        ("breast_cancr", "", "'breast_cancr' is neither a built-in name nor a file (did you mean 'breast_cancer'?)"),
        ("nowhere.csv", "y", "data file nowhere.csv does not exist"),
        ("notes.txt", "y", r"notes.txt ends in .txt; data files end in .csv or .parquet"),
        ("folder", "y", "folder is a folder; name a .csv or .parquet file in it"),
        ("empty.csv", "y", "empty.csv is empty"),
        ("header.csv", "y", "header.csv has no rows"),
        ("good.csv", "", "good.csv needs a target: the column to predict, one of x, y"),
        ("good.csv", "yy", "target 'yy' is not a column of good.csv (did you mean 'y'?); its columns are x, y"),
        ("gaps.csv", "y", "target 'y' is missing in 3 of 5 rows; name another target, or fill it in"),
        ("text.parquet", "y", "text.parquet cannot be read as Parquet: "),
    ],
)
def test_unusable_data_are_named_with_what_to_do(tmp_path, monkeypatch, data, target, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("x,y\n")
    (tmp_path / "good.csv").write_text("x,y\n1,a\n")
    (tmp_path / "gaps.csv").write_text("x,y\n1,a\n2,\n3,b\n4,\n5,\n")
    (tmp_path / "text.parquet").write_text("x,y\n1,2\n")
    with pytest.raises(ModelerError) as error:
        load_table(data, target)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_slug_is_a_name_the_store_takes():
    assert slugify("Orders (2024) – final.v2") == "orders_2024_final_v2"
    assert len(slugify("x" * 200)) == 40
    assert slugify("日本") == ""


def test_file_without_a_latin_letter_in_its_name_is_a_table(tmp_path):
    (tmp_path / "日本.csv").write_text("x,y\n1,a\n")
    assert load_table(str(tmp_path / "日本.csv"), "y").name == "table"


def test_dates_are_texts_in_raw_records():
    frame = pd.DataFrame({"day": pd.to_datetime(["2024-01-01", None]), "x": [1, 2]})
    frame["at"] = pd.to_datetime(["2024-01-01 10:30", "2024-01-02"], format="mixed")
    assert raw_records(frame) == [
        {"day": "2024-01-01", "x": 1, "at": "2024-01-01T10:30:00Z"},
        {"day": None, "x": 2, "at": "2024-01-02T00:00:00Z"},
    ]


@pytest.mark.parametrize(
    ("values", "kind", "task"),
    [
        (["0", "", "1", "0", "", "1"], "i", "classification"),
        (["true", "", "false", "true", "", "false"], "b", "classification"),
        (["a", "", "b", "a", "", "b"], "O", "classification"),
        (["0.5", "", "1", "2.25", "", "3"], "f", "regression"),
    ],
)
def test_rows_without_a_target_are_left_out_counted_and_told(tmp_path, values, kind, task):
    (tmp_path / "gaps.csv").write_text("x,flag,y\n" + "".join(f"{i},{i % 3 > 0},{y}\n" for i, y in enumerate(values)))
    table = load_table(str(tmp_path / "gaps.csv"), "y")
    assert (len(table.frame), table.left_out, table.task) == (4, 2, task)
    assert table.frame["x"].tolist() == [0, 2, 3, 5] and table.frame["y"].dtype.kind == kind
    assert table.notes[0] == "2 of 6 rows have no 'y' and are left out"
    contract = derive_contract(table, table.frame, 0, 0.2)
    assert (contract["rows"], contract["rows_without_target"]) == (4, 2)
    whole = Table("whole", table.frame, "y")
    assert "rows_without_target" not in derive_contract(whole, table.frame, 0, 0.2)


def test_repeated_index_of_a_parquet_file_is_none_of_the_data(tmp_path):
    """As pd.concat leaves it without ignore_index."""
    frame = pd.DataFrame({"x": [1.5, 2, 3], "y": ["a", "b", "a"]}, index=[0, 0, 1])
    frame.to_parquet(tmp_path / "table.parquet")
    assert list(load_table(str(tmp_path / "table.parquet"), "y").frame.index) == [0, 1, 2]
