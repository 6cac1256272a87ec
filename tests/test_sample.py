"""A sample of data too large to train on: how many rows, which ones come again, and that they are what the file says."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

import modeler.data.sample
from modeler import ModelerError, UsageError
from modeler.commands.retrain import check_request
from modeler.commands.sampling import describe_sample, sample_data
from modeler.data.dialect import CsvFormat
from modeler.data.sample import take_sample
from modeler.runs.provenance import describe_provenance

NOTEBOOKS = [ROOT / "notebooks" / name for name in ("eda.ipynb", "train.ipynb")]


def make_frame(rows: int) -> pd.DataFrame:
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame({"id": range(rows), "x": drawn.normal(size=rows).round(3), "group": drawn.integers(0, 300, rows)})
    return frame.assign(text=np.where(frame["x"] > 0, 'two\nlines, "quoted"', None), y=np.where(frame["x"] > 0, "yes", "no"))


def write(frame: pd.DataFrame, path: Path) -> Path:
    """As .csv, or as a folder of two Parquet files."""
    if path.suffix:
        frame.to_csv(path, index=False)
    else:
        path.mkdir()
        frame[: len(frame) // 2].to_parquet(path / "1.parquet", row_group_size=700)
        frame[len(frame) // 2 :].to_parquet(path / "2.parquet")
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Many blocks of each file, as of a large one."""
    monkeypatch.setattr(modeler.data.sample, "BLOCK", 50_000)
    monkeypatch.setattr(modeler.data.sample, "LONGEST", 100_000)


@pytest.mark.parametrize("name", ["rows.csv", "rows"])
def test_sampled_rows_stand_in_their_order_as_the_file_has_them(tmp_path, name):
    frame = make_frame(9000)
    found = take_sample(write(frame, tmp_path / name), 1000, "", CsvFormat(), tmp_path / "samples")
    assert (found.rows, found.of, found.path.stem) == (1000, 9000, "rows")
    sampled = read(found.path)
    pd.testing.assert_frame_equal(sampled, frame.iloc[sampled["id"]].reset_index(drop=True), check_dtype=False)
    assert sampled["id"].is_monotonic_increasing and abs(sampled["id"].mean() - 4500) < 4 * 2600 / 1000**0.5
    again = take_sample(tmp_path / name, 1000, "", CsvFormat(), tmp_path / "samples")
    assert again.path == found.path and len(list((tmp_path / "samples").iterdir())) == 1  # nothing is kept twice


@pytest.mark.parametrize("name", ["rows.csv", "rows"])
def test_no_old_row_comes_in_when_the_file_grows(tmp_path, name):
    frame = make_frame(9000)
    few, many = (tmp_path / part for part in ("few", "many"))
    for folder, rows in ((few, 6000), (many, 9000)):
        folder.mkdir()
        write(frame[:rows], folder / name)
    before, after = (set(read(take_sample(folder / name, 1000, "", CsvFormat(), folder / "s").path)["id"]) for folder in (few, many))
    assert {row for row in after if row < 6000} < before
    assert 500 < len(before & after) < 850  # two thirds of the rows are old ones


@pytest.mark.parametrize("name", ["rows.csv", "rows"])
def test_groups_stay_whole(tmp_path, name):
    frame = make_frame(9000)
    found = take_sample(write(frame, tmp_path / name), 1000, "group", CsvFormat(), tmp_path / "samples")
    sampled = read(found.path)
    assert 1000 <= len(sampled) < 1060 and len(sampled) == frame["group"].isin(sampled["group"]).sum()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=20, max_size=400), st.integers(5, 60))
def test_equal_rows_are_sampled_one_by_one(tmp_path_factory, values, wanted):
    folder = tmp_path_factory.mktemp("equal")
    pd.DataFrame({"a": values, "b": 1}).to_csv(folder / "equal.csv", index=False)
    found = take_sample(folder / "equal.csv", wanted, "", CsvFormat(), folder / "samples")
    assert found.rows == len(read(found.path)) == min(wanted, len(values)) and found.of == len(values)


def test_another_order_of_the_rows_gives_the_same_rows(tmp_path):
    frame = pd.concat([make_frame(3000).drop(columns="id")] * 2)
    kept = []
    for number in range(2):
        frame.sample(frac=1, random_state=number).to_csv(tmp_path / "rows.csv", index=False)
        found = read(take_sample(tmp_path / "rows.csv", 500, "", CsvFormat(), tmp_path / "samples").path)
        kept.append(found.sort_values([*found]).reset_index(drop=True))
    pd.testing.assert_frame_equal(*kept)


def test_file_keeps_its_encoding_and_separator(tmp_path):
    frame = make_frame(800).assign(text="größer")
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        frame.to_csv(tmp_path / "rows.csv", sep=";", index=False, encoding=encoding, lineterminator="\r\n")
        found = take_sample(tmp_path / "rows.csv", 100, "group", CsvFormat(), tmp_path / encoding)
        assert set(pd.read_csv(found.path, sep=";", encoding=encoding)["text"]) == {"größer"}


def write_uneven(folder: Path) -> Path:
    folder.mkdir()
    make_frame(50).to_parquet(folder / "1.parquet")
    make_frame(50).astype({"id": "float64"}).to_parquet(folder / "2.parquet")
    return folder


def write_nested(folder: Path) -> Path:
    folder.mkdir()
    pa.parquet.write_table(pa.table({"a": [[1], [2]]}), folder / "1.parquet")
    return folder


@pytest.mark.parametrize(
    ("make", "by", "told"),
    [
        (lambda path: write(make_frame(50), path / "rows.csv"), "grop", r"--split-by grop: .* \(did you mean 'group'\?\)"),
        (lambda path: write(make_frame(50), path / "rows"), "grop", r"no such column \(did you mean 'group'\?\)"),
        (lambda path: write_uneven(path / "rows"), "", "2.parquet has other columns or types than .*1.parquet"),
        (lambda path: write_nested(path / "rows"), "", "column 'a' of .* holds values of the type list"),
        (lambda path: (path / "none").mkdir() or path / "none", "", "holds no .parquet file"),
        (lambda path: (path / "a.csv").write_text("\n") and path / "a.csv", "", "is empty; give a file with a header"),
        (lambda path: (path / "a.csv").write_text('a,b\n"1,2\n' + "3,4\n" * 50_000) and path / "a.csv", "", "close its quotes"),
        (lambda path: (path / "a.parquet").write_text("a,b") and path / "a.parquet", "", "cannot be read as Parquet"),
        (lambda path: (path / "a.csv").write_bytes(b"PK\x03\x04") and path / "a.csv", "", "is a zip archive"),
    ],
)
def test_fault_of_the_data_is_one_sentence_and_leaves_nothing(tmp_path, make, by, told):
    with pytest.raises(ModelerError, match=told):
        take_sample(make(tmp_path), 20, by, CsvFormat(), tmp_path / "samples")
    assert not any((tmp_path / "samples").iterdir())


def make_options(**given) -> SimpleNamespace:
    names = ["target", "name", "split_by", "split_time", "containerize"]
    options = dict.fromkeys(names) | {"param": [], "floors": [], "ceilings": [], "sample": "600"}
    return SimpleNamespace(**options | given)


class Said:
    def __init__(self):
        self.lines = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["rows.csv", "rows"])
def test_retrain_is_told_and_records_the_sample(tmp_path, name, monkeypatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "store"))
    source, said = write(make_frame(9000).drop(columns="text"), tmp_path / name), Said()
    options = make_options(data=str(source), target="y", split_by="group")
    options.sampled = sample_data(options, tmp_path / "runs", said)
    request = check_request(options, NOTEBOOKS, said)
    assert request.name == "rows" and 600 <= len(request.table.frame) < 660
    assert f"           a sample of {len(request.table.frame)} of the 9,000 rows of {name}, by their hash" in said.lines
    assert request.parameters["eda.ipynb"]["data"] == request.data.name and request.data.stem == "rows"
    told = describe_provenance(request.table, NOTEBOOKS, request.parameters)["data"]["sample"]
    assert told == describe_sample(options)
    assert told == {"asked": 600, "by": "group", "rows": len(request.table.frame), "of": 9000, "from": name}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"data": "breast_cancer"}, "breast_cancer is no .csv or .parquet file and no folder of Parquet files"),
        ({"data": "rows.csv", "target": None}, "needs --target COLUMN"),
        ({"data": "rows.txt"}, "ends in neither .csv nor .parquet"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "rows.txt"):
        write(make_frame(50), tmp_path / "rows.csv").replace(tmp_path / name)
    write(make_frame(50), tmp_path / "rows.csv")
    with pytest.raises(UsageError, match=re.escape(told)):
        sample_data(make_options(**{"target": "y"} | given), tmp_path / "runs", Said())
