"""Numbers and booleans that a file has as texts: told, asked for, or left alone; the same number at every hop."""

import json
from decimal import Decimal
from functools import cache

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from cells import run_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from palmerpenguins import load_penguins_raw
from pydantic import TypeAdapter
from test_predictor import answer, store_model

from modeler import ModelerError
from modeler.data.amounts import convert_texts, find_amounts
from modeler.data.derive import derive_contract
from modeler.data.dialect import CsvFormat
from modeler.data.rows import raw_records
from modeler.data.tables import load_table
from modeler.gate.champion import list_dealt
from modeler.model.amounts import LARGEST, read_value, write_example, write_pattern
from modeler.model.contract import write_json
from modeler.model.graph import Graph, encode_columns
from modeler.service.body import BodyReader, RequestError, create_row_model


def read(folder, values, y=None, parquet=False, **told):
    """A table with these values in its column x."""
    y = y or [("a", "b")[row % 2] for row in range(len(values))]
    frame, path = pd.DataFrame({"x": values, "y": y}), folder / ("t.parquet" if parquet else "t.csv")
    frame.to_parquet(path) if parquet else frame.to_csv(path, index=False)
    return load_table(str(path), "y", written=CsvFormat("auto" if parquet else "comma", **told))


def list_values(table) -> list:
    return [row["x"] for row in raw_records(table.frame)]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("texts", "numbers", "form"),
    [
        (["$1,234.50", None, "$5"], [1234.5, None, 5], "$1,234.5"),
        (["1.234,50 €", "5 €"], [1234.5, 5], "1.234,5 €"),
        (["USD 12", "USD 1,200.5"], [12, 1200.5], "USD 1,234.5"),
        (["5EUR", "7,5 EUR"], [5, 7.5], "1.234,5EUR"),
        (["-$5", "$-5", "$ 3", "\u2212$2"], [-5, -5, 3, -2], "$1,234.5"),
        (["R$ 5", "R$ 6.5"], [5, 6.5], "R$ 1,234.5"),
        (["₹1,23,456.00", "₹5"], [123456, 5], "₹1,234.5"),
        (["12.5%", "3 %"], [12.5, 3], "1,234.5%"),
        (["12 kg", "13 kg"], [12, 13], "1,234.5 kg"),
        (["12kg", "1,300kg", "1.5kg"], [12, 1300, 1.5], "1,234.5kg"),
        (["12 m2", "5 m2"], [12, 5], "1,234.5 m2"),
        (["20°C", "-3.5°C"], [20, -3.5], "1,234.5°C"),
        (["1 day", "2 days"], [1, 2], "1,234.5 day"),
        ([" 36 months", " 60 months"], [36, 60], "1,234.5 months"),
        (["(1,234.0)", "567"], [-1234, 567], "1,234.5"),
        (["($5)", "$6", "$(7)"], [-5, 6, -7], "$1,234.5"),
        (["1 234,5", "12"], [1234.5, 12], "1 234,5"),
        (["1\u202f234\u00a0567 €", "12,5 €"], [1234567, 12.5], "1\u202f234,5 €"),
        (["1'234.5", "12"], [1234.5, 12], "1'234.5"),
    ],
)
def test_column_of_amounts_in_one_form_is_numbers(tmp_path, texts, numbers, form, parquet):
    table = read(tmp_path, texts, parquet=parquet)
    assert list_values(table) == numbers and table.formats == {"x": form}
    assert table.frame["x"].dtype == float
    (note,) = [note for note in table.notes if note.startswith("numbers: ")]
    assert note.startswith(f"numbers: 'x' from texts such as {texts[0]!r}")
    assert ("12.5 stands for 12.5%" in note) is ("%" in form)
    assert ("read with decimal comma" in table.notes) is ("234,5" in form)
    feature = {"name": "x", "type": "number", "format": form, "min": 0}
    assert [read_value(text, feature) for text in texts] == numbers
    example = write_example(feature | {"example": -1234.5})
    assert read_value(example, feature) == -1234.5 and form in example


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    "texts",
    [
        ["01234", "12345"], ["0123", "1'234"], ["0 123", "1 234"], ["10:30", "11:00"], ["10-20", "20-30"],
        ["1/2", "3/4"], ["A12", "B13"],
        ["12A", "14A"], ["12a", "14b"], ["3rd", "3rd", "4rd"], ["4x4", "2x4"], ["5G", "4G"], ["v5", "v6"], ["#5", "#6"],
        ["1.2.3", "1.10.0"], ["10.0.0.1", "192.168.100.200"], ["612 345 678", "601 222 333"],
        ["030 123 456", "030 123 45"], ["+48 601 222 333", "+351 912 345 678"], ["(555) 123-4567", "(555) 765-4321"],
        ["(1)", "(2)"], ["Room 5", "Room 6"], ["12 Main St", "14 Main St"], ["9 am", "3 pm"],
        ["yes", "no", "maybe"], ["yes", "y", "no"], ["yes", "yes", None],
        ["100 Elm", "12 Oak"], ["$ five", "$ six"], ["$", "%"], ["5 $ 6", "7 $ 8"], ["€5M", "€6M"],
    ],
)  # fmt: skip
def test_texts_that_only_look_like_amounts_stay_texts(tmp_path, texts, parquet):
    table = read(tmp_path, texts, parquet=parquet)
    assert list_values(table) == texts and table.formats == {}
    assert not any("'x'" in note for note in table.notes)


def test_numbers_of_parquet_that_are_plain_texts_stay_texts(tmp_path):
    assert list_values(read(tmp_path, ["90210", "10001"], parquet=True)) == ["90210", "10001"]


@pytest.mark.parametrize(
    ("texts", "row", "odd", "form"),
    [
        (["$5", "€6"], 2, "€6", "$1,234.5"),
        (["$5"] * 19 + ["€6"], 20, "€6", "$1,234.5"),
        (["A$5", "C$7.5", "A$3"], 2, "C$7.5", "A$1,234.5"),
        (["12 kg"] + ["5 lb"] * 3, 1, "12 kg", "1,234.5 lb"),
        (["$1,234.5", "1.234,5 $"], 2, "1.234,5 $", "$1,234.5"),
        (["$5"] * 30 + ["$12.3.4"], 31, "$12.3.4", "$1,234.5"),
        (["$5"] * 2000 + ["$inf"], 2001, "$inf", "$1,234.5"),
        ([None] + ["3%"] * 9 + ["3"], 11, "3", "1,234.5%"),
        (["5"] * 19 + ["(6)", "x"], 21, "x", "1,234.5"),
        (["$5"] * 30 + ["NaN "], 31, "NaN ", "$1,234.5"),
        (["$5"] * 30 + ["$0." + "1" * 99], 31, "$0." + "1" * 99, "$1,234.5"),
    ],
)
def test_what_keeps_a_column_from_being_numbers_is_named_and_refused_where_told(tmp_path, texts, row, odd, form):
    table = read(tmp_path, texts)
    assert list_values(table) == texts
    told = f"{odd!r} in row {row}"
    (note,) = [note for note in table.notes if "'x'" in note]
    assert note == (
        f"column 'x' is no number because of {told}, where others are as {form!r}; "
        "mend or empty such values to use it as numbers"
    )
    with pytest.raises(ModelerError) as error:
        read(tmp_path, texts, columns="x=number")
    sentence = f"columns makes 'x' a number, and {told} is none, where others are as {form!r}; mend"
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("texts", "told", "expected"),
    [
        (["$5", "$6"], "category", ["$5", "$6"]),
        (["Room 5", "Room 6"], "number", [5, 6]),
        (["(1)", "(2)"], "number", [-1, -2]),
        (["612 345 678", "601 222 333"], "number", [612345678, 601222333]),
        (["01234", "12345"], "number", [1234, 12345]),
        (["Yes", "No"], "category", ["Yes", "No"]),
        (["Yes", "yes"], "boolean", [True, True]),
        (["t", "F"], "boolean", [True, False]),
    ],
)
def test_type_that_a_person_tells_wins(tmp_path, texts, told, expected):
    assert list_values(read(tmp_path, texts, columns=f"x={told}")) == expected


@pytest.mark.parametrize(
    ("texts", "told", "sentence"),
    [
        (["a", "$5"], "number", "columns makes 'x' a number, and 'a' in row 1 is none"),
        (["5", "6 kg", "7"], "number", "columns makes 'x' a number, and '6 kg' in row 2 is none"),
        (["Yes", None, "maybe", "No"], "boolean", "columns makes 'x' a boolean, and 'maybe' in row 3 is neither 'no'"),
        (["often", "never"], "boolean", "columns makes 'x' a boolean, and 'often' in row 1 is none"),
        (["$1", "$" + "9" * 40], "number", f"column 'x' has '${'9' * 40}' in row 2, which is beyond 3.4e+38"),
    ],
)  # fmt: skip
def test_value_that_is_not_what_was_told_is_named_with_its_row(tmp_path, texts, told, sentence):
    with pytest.raises(ModelerError) as error:
        read(tmp_path, texts, columns=f"x={told}")
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("texts", [["1.234 €", "2.500 €"], ["$1,234", "$999"], ["(1,234)", "567"], ["12.345%", "7%"]])
def test_decimals_that_no_amount_decides_are_asked_for(tmp_path, texts, parquet):
    with pytest.raises(ModelerError) as error:
        read(tmp_path, texts, parquet=parquet)
    assert f"can be read in more than one way: {texts[0]!r} in 'x'; say it with -p decimal=" in str(error.value)
    both = [list_values(read(tmp_path, texts, parquet=parquet, decimal=decimal)) for decimal in ("point", "comma")]
    assert abs(both[0][0]) in (1.234, 1234, 12.345) and abs(np.log10(both[0][0] / both[1][0])) == pytest.approx(3)


def test_other_column_decides_the_decimals_of_amounts_and_they_those_of_it(tmp_path):
    def read_both(x, z):
        pd.DataFrame({"x": x, "z": z, "y": ["a", "b"]}).to_csv(tmp_path / "t.csv", index=False, sep=";")
        return load_table(str(tmp_path / "t.csv"), "y").frame

    assert read_both(["1.234 €", "2.500 €"], ["1,5", "2,25"])["x"].tolist() == [1234, 2500]
    assert read_both(["1.234 €", "2.500 €"], ["1.5", "2.25"])["x"].tolist() == [1.234, 2.5]
    assert read_both(["1,5 €", "2 €"], ["1,500", "2,250"])["z"].tolist() == [1.5, 2.25]
    with pytest.raises(ModelerError, match="more than one way: '1,5 €' in 'x' and '[$]1.50' in 'z'"):
        read_both(["1,5 €", "2 €"], ["$1.50", "$2"])


@pytest.mark.parametrize(
    ("texts", "flags", "pair", "parquet"),
    [
        (["Yes", "No", None], [True, False, None], ["No", "Yes"], False),
        (["y", "N", "Y"], [True, False, True], ["N", "Y"], False),
        (["T", "F"], [True, False], ["F", "T"], False),
        (["tRue", "fAlse "], [True, False], ["fAlse ", "tRue"], False),
        (["1", "0", None], [True, False, None], ["0", "1"], True),
        (["true", "false"], [True, False], ["false", "true"], True),
    ],
)
def test_yes_and_no_are_booleans(tmp_path, texts, flags, pair, parquet):
    table = read(tmp_path, texts, parquet=parquet)
    assert list_values(table) == flags and table.formats == {"x": pair}
    assert f"booleans: 'x' from {pair[0]!r} and {pair[1]!r}" in table.notes


def test_numeric_0_and_1_stay_numbers_and_booleans_need_no_format(tmp_path):
    assert list_values(read(tmp_path, [0, 1])) == [0, 1]
    table = read(tmp_path, ["true", "False"])
    assert list_values(table) == [True, False] and table.formats == {}


@pytest.mark.parametrize("labels", [["Yes", "No"], ["0 %", "5 %"], ["$5", "$6"], ["5 stars", "4 stars"], ["T", "F"]])
@pytest.mark.parametrize("parquet", [False, True])
def test_target_keeps_its_labels(tmp_path, labels, parquet):
    table = read(tmp_path, ["Yes", "No"] * 20, y=labels * 20, parquet=parquet)
    assert sorted(set(table.frame["y"])) == sorted(labels) and table.task == "classification"
    assert table.frame["x"].dtype == bool


def test_target_of_more_amounts_than_classes_is_a_number(tmp_path):
    prices = [f"${price:,}.50" for price in range(0, 3000, 100)]
    table = read(tmp_path, list(range(30)), y=prices)
    assert table.task == "regression" and table.frame["y"].tolist() == [price + 0.5 for price in range(0, 3000, 100)]
    few = read(tmp_path, list(range(30)), y=prices[:2] * 15, columns="y=number")
    assert few.frame["y"].tolist()[:2] == [0.5, 100.5]


# The same number at every hop


SPACE = st.sampled_from(["", " ", "\u00a0", "\u202f"])


@st.composite
def write_amounts(draw):
    """A format, and texts in it with the numbers they stand for."""
    decimal = draw(st.sampled_from(".,"))
    unit, space = draw(st.sampled_from(["$", "€", "US$", "EUR", "%", "kg", "m2", "°C", "Rs.", ""])), draw(SPACE)
    before = unit in ("$", "US$", "Rs.") or unit in ("€", "EUR") and draw(st.booleans())
    left, right = (unit + space, "") if before else ("", space + unit if unit else "")
    texts, numbers = [], []
    for _ in range(draw(st.integers(1, 8))):
        whole, places = draw(st.integers(0, 10**15)), draw(st.integers(0, 6))
        fraction = f".{draw(st.integers(0, 10**places - 1)):0{places}}" if places else ""
        thousands = draw(st.sampled_from(["", "," if decimal == "." else ".", "'", "\u2019", " ", "\u00a0"]))
        digits = f"{whole:,}".replace(",", thousands) + fraction.replace(".", decimal)
        plain, minus = f"{left}{digits}{right}", draw(st.sampled_from("-\u2212"))
        ways = [f"{minus}{plain}", f"({plain})"] + ([f"{left}{minus}{digits}", f"{left}({digits})"] if before else [])
        negative = draw(st.booleans())
        texts.append(draw(st.sampled_from(ways)) if negative else plain)
        numbers.append(float(Decimal(f"{'-' * negative}{whole}{fraction}")))
    return f"{left}1{',' if decimal == '.' else '.'}234{decimal}5{right}", texts, numbers


@cache
def make_identity() -> bytes:
    """A graph that answers one number with itself."""
    numbers, answers = (helper.make_tensor_value_info(name, 1, [None, 1]) for name in ("numbers", "answers"))
    node = helper.make_node("Identity", ["numbers"], ["answers"])
    graph = helper.make_graph([node], "identity", [numbers], [answers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def convert(texts, decimal) -> list:
    """The column as the data side converts it, told to be a number."""
    columns = {"x": pa.chunked_array([pa.array(texts, pa.string())])}
    made, _, _ = convert_texts(columns, find_amounts(columns, {"x": "number"}, ""), decimal, {"x": "number"}, "")
    return made["x"].to_pylist()


@pytest.mark.medium
@settings(max_examples=200, deadline=None)
@given(write_amounts())
def test_amount_is_the_same_number_in_a_file_a_request_and_a_column(drawn):
    form, texts, numbers = drawn
    feature = {"name": "x", "type": "number", "used": True, "missing": True, "format": form, "min": 0, "max": 1}
    feature |= {"example": 1}
    contract = {"features": [feature], "target": {"name": "y", "classes": None}}
    assert [read_value(text, feature) for text in texts] == numbers
    marked = [*texts, write_example(feature | {"example": 1234.5})]
    assert convert(marked, "point" if "234.5" in form else "comma") == [*numbers, 1234.5]
    rows = [{"x": text} for text in texts] + [{"x": number} for number in numbers] + [{"x": None}]
    columns = encode_columns({"x": [row["x"] for row in rows]}, contract)["numbers"]
    assert columns.tobytes() == np.array([*numbers, *numbers, None], np.float32)[:, None].tobytes()
    assert Graph(make_identity(), contract).encode(rows)["numbers"].tobytes() == columns.tobytes()
    told = json.dumps(rows).encode()
    assert [row["x"] for row in BodyReader(contract, 99).read(told)] == [*numbers, *numbers, None]


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(st.text("0123456789.,' -+()$€kg\u00a0\u2212\n", max_size=14), st.sampled_from(["$", "kg"]))
def test_file_and_request_agree_on_which_texts_are_amounts(text, unit):
    form = {"$": "$1,234.5", "kg": "1,234.5 kg"}[unit]
    feature = {"name": "x", "type": "number", "format": form}
    alike = [form] * 9
    try:
        expected = read_value(text, feature)
    except ValueError:
        with pytest.raises(ModelerError, match="columns makes 'x' a number, and .* in row 10 is none"):
            convert([*alike, text], "point")
    else:
        assert convert([*alike, text], "point")[9] == expected


def test_pattern_takes_no_time_that_grows_with_its_square():
    for text in ("1" * 60 + "x", "1,111" * 12, "(" * 60, " " * 59 + "x"):
        with pytest.raises(ValueError):
            read_value(text, {"type": "number", "format": "1,234.5 kg"})
    assert len(write_pattern("kg", ".")) < 3000


# Requests


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    rng = np.random.default_rng(0)
    price, paid = rng.integers(1, 3000, 60), rng.random(60) > 0.4
    table = read(
        tmp_path_factory.mktemp("sold"),
        [f"${value:,}.50" for value in price],
        y=["b" if value > 1500 else "a" for value in price],
    )
    frame = table.frame.assign(paid=pd.Series(paid).astype(object).where(price > 100, None))
    table = type(table)("sold", frame[["x", "paid", "y"]], "y", formats={**table.formats, "paid": ["No", "Yes"]})
    made = derive_contract(table, frame, min_association=0, holdout=0.2)
    assert all(feature["used"] for feature in made["features"])
    return made


def test_contract_says_which_texts_callers_may_send(contract):
    price, paid = contract["features"]
    assert (price["format"], paid["format"]) == ("$1,234.5", ["No", "Yes"])
    assert type(price["min"]) is float and paid["categories"] == [False, True]


def test_request_takes_the_number_or_the_text(contract):
    reader = BodyReader(contract, 99)
    sent = [("$1,234.50", "yes"), (1234.5, True), ("-$5", "NO"), (" 7 $", None), (7, " Yes ")]
    rows = reader.read(json.dumps([{"x": price, "paid": paid} for price, paid in sent]).encode())
    read = [(1234.5, True), (1234.5, True), (-5.0, False), (7.0, None), (7.0, True)]
    assert rows == [{"x": price, "paid": paid} for price, paid in read]
    assert all(type(row["x"]) is float for row in rows)


@pytest.mark.parametrize("value", ["€5", "5", "", "NaN", "$inf", "$12.3.4", "$1.234,50", "12 kg", "$" + "1" * 1000])
def test_text_that_is_no_such_amount_is_one_fault(contract, value):
    fault = refuse(contract, {"x": value})
    example = write_example(contract["features"][0])
    low, high = (f"{contract['features'][0][bound]:.10g}" for bound in ("min", "max"))
    assert fault["message"].endswith(
        f" is no such amount; it must be a number, or a text such as {example!r}; in training {low} to {high}"
    )
    assert fault["message"].startswith(repr(value)[:50]) and fault["value"] == value[:99] + "…" * (len(value) > 99)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": "$" + "9" * 45}, "'$" + "9" * 45 + "' is beyond what a float32 holds; it must be a number, or a text"),
        ({"x": 1e39}, "must be a number between -3.4e+38 and 3.4e+38, which is what a float32 holds"),
        ({"x": True}, "must be a number, or a text such as '$"),
        ({"x": None}, "must be a number, or a text such as '$"),
        ({"x": ["$5"]}, "must be a number, or a text such as '$"),
        ({"paid": "maybe"}, "'maybe' is neither; it must be true or false, 'No' or 'Yes' or null"),
        ({"paid": 1}, "must be true or false, 'No' or 'Yes' or null"),
        ({"paid": ""}, "'' is neither; it must be true or false, 'No' or 'Yes' or null"),
    ],
)
def test_other_faults_say_what_is_expected(contract, change, message):
    assert refuse(contract, change)["message"].startswith(message)


def refuse(contract, change) -> dict:
    with pytest.raises(RequestError) as error:
        BodyReader(contract, 99).read(json.dumps({"x": 5, "paid": True} | change).encode())
    assert error.value.answer["error"] == "the request has 1 fault; nothing was predicted"
    (fault,) = error.value.answer["detail"]
    return fault


def test_openapi_describes_number_and_text_with_an_example_of_each(contract):
    schema = TypeAdapter(create_row_model(contract)).json_schema()
    price, paid = (schema["properties"][name] for name in ("x", "paid"))
    assert price["type"] == ["number", "string"] and [type(value) for value in price["examples"]] == [float, str]
    for value in (*price["examples"], *paid["examples"], "Yes", "No", True, None):
        row = {"x": 5.0, "paid": None} | ({"paid": value} if value in ("Yes", "No", True, None) else {"x": value})
        jsonschema.validate(row, schema, jsonschema.Draft202012Validator)
        assert BodyReader(contract, 9).read(json.dumps(row).encode())
    for wrong in ({"x": "5 €"}, {"x": "$" + "9" * 40}, {"x": False}, {"paid": "maybe"}, {"paid": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"x": 5.0, "paid": None} | wrong, schema, jsonschema.Draft202012Validator)


def test_service_answers_and_warns_of_texts_as_of_their_numbers(tmp_path):
    model = store_model(tmp_path, "two")
    contract, rows = model.read("contract.json"), model.read("golden.json")["rows"]
    for feature in contract["features"]:
        feature |= {"class": {"format": "1,234.5 kg"}, "flag?": {"format": ["no", "yes"]}}.get(feature["name"], {})
    write_json(tmp_path / "contract.json", contract)
    flags = {True: "YES", False: "no", None: None}
    texts = [row | {"class": f"{row['class']} kg", "flag?": flags[row["flag?"]]} for row in rows]
    assert answer(model, texts) == answer(model, rows)
    (given,) = answer(model, [rows[0] | {"class": "1,200 kg"}])["predictions"]
    assert given["warnings"] == ["class 1200 is outside the training range 0 to 8"]
    graph = Graph(tmp_path / "model.onnx", contract)
    assert graph.answer(texts) == graph.answer(rows)


@pytest.mark.medium
def test_real_table_with_units_percent_and_yes_is_trained_and_asked_by_its_texts(tmp_path, monkeypatch, capsys):
    """Palmer penguins as they were counted, with a real Yes and No, and measures as people write them."""
    monkeypatch.chdir(tmp_path)
    raw = load_penguins_raw().dropna(subset=["Sex", "Body Mass (g)"]).reset_index(drop=True)
    texts = pd.DataFrame({
        "mass": raw["Body Mass (g)"].map("{:,.0f} g".format),
        "culmen": raw["Culmen Length (mm)"].map("{:.1f}mm".format),
        "nitrogen": raw["Delta 15 N (o/oo)"].map("{:.3f} ‰".format, na_action="ignore"),
        "worth": (raw["Body Mass (g)"] / 3).map("${:,.2f}".format),
        "Clutch Completion": raw["Clutch Completion"],
        "Sex": raw["Sex"],
    })  # fmt: skip
    texts.to_csv("counted.csv", index=False)
    told = {"data": "counted.csv", "target": "Sex", "min_association": "0", "out": "."}
    run_cells(told, "write_json(", notebook="eda.ipynb")
    told = {"data": "counted.csv", "estimator": "logistic_regression", "out": "."}
    names = run_cells(told, until="graph and estimator differ")
    assert "graph and estimator give the same answer to all" in capsys.readouterr().out
    contract = names["graph"].contract
    assert {feature["name"]: feature.get("format") for feature in contract["features"]} == {
        "mass": "1,234.5 g",
        "culmen": "1,234.5mm",
        "nitrogen": "1,234.5 ‰",
        "worth": "$1,234.5",
        "Clutch Completion": ["No", "Yes"],
    }
    assert contract["target"]["classes"] == ["FEMALE", "MALE"]
    numbers, sent = (raw_records(frame.drop(columns="Sex"))[:50] for frame in (names["table"].frame, texts))
    assert numbers[0]["mass"] == raw["Body Mass (g)"][0] and sent[0]["mass"].endswith(" g")
    reader = BodyReader(contract, 99)
    assert reader.read(json.dumps(sent).encode()) == numbers
    assert names["graph"].answer(sent) == names["graph"].answer(numbers)


def test_column_that_was_yes_and_no_as_texts_is_dealt_anew():
    texts = {"name": "x", "type": "category", "used": False}
    flag = {"name": "x", "type": "boolean", "used": False, "format": ["no", "yes"]}
    old, new = ({"features": [feature], "target": {"name": "y"}} for feature in (texts, flag))
    assert list_dealt(old, None) != list_dealt(new, None) == list_dealt(new, None)


def test_largest_number_is_that_of_a_float32():
    assert LARGEST == float(np.finfo(np.float32).max)
