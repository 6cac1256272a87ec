"""Files as people have them: how they are written is told, said, or asked for."""

import os
from contextlib import suppress
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeler import ModelerError
from modeler.data.dialect import CsvFormat
from modeler.data.rows import raw_records
from modeler.data.tables import load_table

ROWS = [{"size": 1.5, "name": "Ä", "y": "a"}, {"size": 2.25, "name": None, "y": "b"}]


def read(path, content, target="y", **told) -> tuple[list[dict], list[str]]:
    """Rows and notes of a file with this content, without the note about the target."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = load_table(str(path), target, written=CsvFormat(**told))
    return raw_records(table.frame), list(table.notes[:-1])


@pytest.mark.parametrize(
    ("content", "told", "rows", "note"),
    [
        ("size,name,y\n1.5,Ä,a\n2.25,,b\n", {}, ROWS, None),
        ("\ufeffsize,name,y\r\n1.5,Ä,a\r\n2.25,NA,b\r\n", {}, ROWS, None),
        ("\ufeffsize,name,y\n1.5,Ä,a\n2.25,,b\n", {"encoding": "utf8"}, ROWS, "read with encoding utf8"),
        ("size;name;y\n1,5;Ä;a\n2,25;;b\n", {}, ROWS, "read with separator semicolon, decimal comma"),
        ("size\tname\ty\n1.5\tÄ\ta\n2.25\t\tb\n", {}, ROWS, "read with separator tab"),
        ("size|name|y\n1.5|Ä|a\n2.25||b\n", {}, ROWS, "read with separator pipe"),
        ("size, name, y\n1.5, Ä, a\n2.25,, b\n", {}, ROWS, "read with the space after each separator left out"),
        ("size;name;y\n1,5;Ä;a\n2,25;;b\n".encode("latin-1"), {}, ROWS, "read with separator semicolon, decimal comma, encoding cp1252 ("),
        ("size,name,y\n1.5,Ä,a\n2.25,,b\n".encode("utf-16"), {}, ROWS, "read with encoding utf-16"),
        ("size,name,y\n1.5,Ä,a\n2.25,,b\n".encode("cp437"), {"encoding": "cp437"}, ROWS, "read with encoding cp437"),
        (",size,name,y\n7,1.5,Ä,a\n9,2.25,,b\n", {}, ROWS, "the first column has no name and numbers the rows; it is left out"),
        ("size,name,y,\n1.5,Ä,a,\n2.25,,b,\n", {}, ROWS, "column 4 has no name and holds nothing; it is left out"),
        ('x,y\n"one\ntwo, three",a\nfour,b\n', {}, [{"x": "one\ntwo, three", "y": "a"}, {"x": "four", "y": "b"}], None),
        ("x;z;y\n1.500,25;2.000;a\n750,5;1.250;b\n", {}, [{"x": 1500.25, "z": 2000, "y": "a"}, {"x": 750.5, "z": 1250, "y": "b"}], None),
        ('x,y\n"1,500.25",a\n"2,000",b\n', {}, [{"x": 1500.25, "y": "a"}, {"x": 2000.0, "y": "b"}], None),
        ("x;y\n1,500;a\n2,250;b\n", {"decimal": "comma"}, [{"x": 1.5, "y": "a"}, {"x": 2.25, "y": "b"}], None),
        ("x;y\n1,500;a\n2,250;b\n", {"decimal": "point"}, [{"x": 1500, "y": "a"}, {"x": 2250, "y": "b"}], None),
        ("x;u,z;y\n1;5,2;a\n2;3,3;b\n", {"separator": "semicolon"}, [{"x": 1, "u,z": 5.2, "y": "a"}, {"x": 2, "u,z": 3.3, "y": "b"}], None),
        ("x;a, b;y\n1;2;a\n2;3;b\n", {}, [{"x": 1, "a, b": 2, "y": "a"}, {"x": 2, "a, b": 3, "y": "b"}], "read with separator semicolon"),
        ("zip,flag,y\n01234,TRUE,a\n99999,False,b\n", {}, [{"zip": "01234", "flag": True, "y": "a"}, {"zip": "99999", "flag": False, "y": "b"}], None),
        ("NA,class,y\n1,,a\n2,3,b\n", {}, [{"NA": 1, "class": None, "y": "a"}, {"NA": 2, "class": 3.0, "y": "b"}], None),
        ("a,A,a ,y\n1,2,3,x\n4,5,6,z\n", {}, [{"a": 1, "A": 2, "a ": 3, "y": "x"}, {"a": 4, "A": 5, "a ": 6, "y": "z"}], None),
    ],
)  # fmt: skip
def test_csv_is_read_as_it_was_meant_and_says_what_was_assumed(tmp_path, content, told, rows, note):
    given, notes = read(tmp_path / "t.csv", content, **told)
    assert given == rows
    if note is None:
        assert not any(not sentence.startswith("read with") for sentence in notes)
    else:
        assert notes[0].startswith(note)


def test_numbers_are_read_exactly(tmp_path):
    rows, _ = read(tmp_path / "t.csv", "x,y\n0.1234567890123456789,a\n1e-300,b\n8.41,a\n")
    assert [row["x"] for row in rows] == [0.1234567890123456789, 1e-300, 8.41]


def test_quoted_newline_may_stand_where_a_block_of_the_file_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("modeler.data.reading.BLOCK", 100)
    rows, _ = read(tmp_path / "t.csv", "x,y\n" + 'a,"1\n2\n3\n4"\n' * 100)
    assert len(rows) == 100 and {row["y"] for row in rows} == {"1\n2\n3\n4"}


@pytest.mark.medium
def test_first_text_far_down_makes_its_column_text_and_is_named(tmp_path):
    content = "age,y\n" + "".join(f"{n % 90},a\n" for n in range(200_000)) + "unknown,b\n"
    rows, notes = read(tmp_path / "t.csv", content)
    assert rows[0]["age"] == "0" and rows[-1]["age"] == "unknown"
    assert notes == [
        "column 'age' is text because of 1 of its 200001 values, such as 'unknown'; empty these to use it as numbers"
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "t.csv is empty; give a file with a header"),
        (" \n\n", "t.csv is empty"),
        (b"\xff\xfe", "t.csv is empty"),
        ("x,y\n", "has no rows; give a file with at least a few dozen"),
        ("y\n1\n2\n", "is none of comma, semicolon, tab, pipe, or it has one column: it begins with 'y'; say it with -p separator=comma"),
        ("x;u,z;y\n1;5,2;a\n2;3,3;b\n", "could be comma or semicolon: it begins with 'x;u,z;y'; say it with -p separator="),
        ("x;y\n1,500;a\n2,250;b\n", "more than one way: '1,500' in 'x'; say it with -p decimal=comma or -p decimal=point"),
        ("x;z;y\n1,5;2.5;a\n2,2;3.5;b\n", "more than one way: '1,5' in 'x' and '2.5' in 'z'; say it with"),
        ("x,z,y\n1,2,a\n1,b\n1,2,3,4\n", "row 3 of {path}, '1,b', has 2 values where the header has 3 names; uneven rows: 2."),
        ("x,x,y\n1,2,a\n", "column name 'x' stands in {path} more than once; rename or remove one"),
        ("x,,y\n1,2,a\n2,2,b\n", "column 2 of {path} has no name; give it one in the header"),
        ("x,y\ninf,a\n1,b\n", "column 'x' is infinite or beyond 3.4e+38 in 1 rows"),
        ("x,y\n1,\n2,\n", "target 'y' is missing in 2 of 2 rows; name another target"),
        (b"PAR1\0\0", "is a Parquet file, not a .csv file; export it as .csv or mend its ending"),
        (b"PK\x03\x04\0", "is a zip archive or an Excel workbook, not a .csv file"),
        (b"\x1f\x8b\x08\0", "is a gzip archive, not a .csv file"),
        (b"x,y\n\0\0,a\n", "is a binary file, not a .csv file"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_read_in_one_way_is_refused_with_what_settles_it(tmp_path, content, sentence):
    with pytest.raises(ModelerError) as error:
        read(tmp_path / "t.csv", content)
    assert sentence.format(path=tmp_path / "t.csv") in str(error.value)
    assert "\n" not in str(error.value)


PIECES = [
    *"x1,;\t|\"'\\\n\0 ",
    "\r\n",
    "y",
    "1.5",
    "-3,5",
    "1.234,5",
    "NA",
    "true",
    "01",
    "é",
    "🩺",
    "inf",
    "2024-01-31",
]


@pytest.mark.medium
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(["utf-8", "utf-16", "cp1252"]), st.binary())
def test_no_content_whatever_is_answered_with_a_traceback(tmp_path, text, encoding, end):
    with suppress(ModelerError):
        read(tmp_path / "t.csv", f"x,y\n{text}".encode(encoding, "replace") + end)


def test_text_longer_than_pythons_csv_module_takes_is_read(tmp_path):
    rows, _ = read(tmp_path / "t.csv", f"x,y\n{'long ' * 40_000},a\nshort,b\n")
    assert len(rows[0]["x"]) == 200_000


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"encoding": "klingon"}, "encoding 'klingon' is none that Python knows"),
        ({"encoding": "ascii"}, "cannot be read as .csv in ascii: .*say its encoding with -p encoding=NAME"),
        ({"separator": ":"}, "separator ':' is none of comma, semicolon, tab, pipe"),
        ({"decimal": "dot"}, "decimal 'dot' is neither point nor comma"),
    ],
)
def test_format_that_does_not_fit_is_refused(tmp_path, told, sentence):
    with pytest.raises(ModelerError, match=sentence):
        read(tmp_path / "t.csv", "name,y\nÄ,a\nb,b\n", **told)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["huge.csv", "huge.parquet"])
def test_file_that_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, name):
    if name.endswith(".csv"):
        with open(tmp_path / name, "wb") as file:
            file.write(b"x,y\n1,a\n")
            os.truncate(file.fileno(), 1 << 41)
    else:  # rows that are all alike take no room on the disk
        column = pa.chunked_array([pa.nulls(1_000_000, pa.int32())] * 100)
        pa.parquet.write_table(pa.table({f"c{n}": column for n in range(20)}), tmp_path / name)
    with pytest.raises(ModelerError, match=r"GB of memory, and .* GB are free. Train on a sample of its rows with --sample ROWS"):
        load_table(str(tmp_path / name), "y")


def test_parquet_of_every_plain_kind_is_read(tmp_path):
    frame = pd.DataFrame({
        "kind": pd.Categorical(["u", "v"]),
        "whole": pd.array([1, None], dtype="Int64"),
        "flag": pd.array([True, None], dtype="boolean"),
        "price": [Decimal("1.25"), None],
        7: [1, 2],
        "y": ["a", "b"],
    })  # fmt: skip
    frame.columns = frame.columns.map(str)
    frame.to_parquet(tmp_path / "t.parquet")
    assert raw_records(load_table(str(tmp_path / "t.parquet"), "y").frame) == [
        {"kind": "u", "whole": 1.0, "flag": True, "price": 1.25, "7": 1, "y": "a"},
        {"kind": "v", "whole": None, "flag": None, "price": None, "7": 2, "y": "b"},
    ]


def test_parquet_column_of_lists_is_refused(tmp_path):
    pd.DataFrame({"tags": [["a"], ["b"]], "y": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ModelerError, match="column 'tags' of .* holds values of the type list<.*leave it out"):
        load_table(str(tmp_path / "t.parquet"), "y")
