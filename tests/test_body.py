"""Request bodies: one model made from the contract, four forms, strict types, every fault named."""

import json

import pytest
from test_graph import make_table

from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records
from modeler.data.tables import Table
from modeler.service.body import FORMS, BodyReader, RequestError, write_forms


@pytest.fixture(scope="module")
def table():
    made = make_table("two")
    return Table("made", made.frame.assign(always=1, note=[{"id": n} for n in range(len(made.frame))]), "y")


@pytest.fixture(scope="module")
def contract(table):
    plain = Table(table.name, table.frame.drop(columns="note"), table.target)
    return derive_contract(plain, plain.frame, min_association=0, holdout=0.2)


@pytest.fixture(scope="module")
def rows(table):
    return raw_records(table.frame.drop(columns=["y", "always", "note"]))[:30]


@pytest.fixture
def reader(contract):
    return BodyReader(contract, 100)


def refuse(reader, body):
    with pytest.raises(RequestError) as refused:
        reader.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    answer = refused.value.answer
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    return refused.value.status, answer


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows_in_order(reader, rows, form):
    for part in ([rows[7]], rows):
        if form in write_forms(part):
            assert reader.read(json.dumps(write_forms(part)[form]).encode()) == part


def test_forms_are_those_that_pandas_writes(table, reader, rows):
    frame = table.frame[list(rows[0])].head(30)
    for orient in ("records", "columns"):
        assert reader.read(frame.to_json(orient=orient, double_precision=15).encode()) == rows
    assert reader.read(json.dumps(json.loads(frame.to_json(double_precision=15))).encode()) == rows
    as_lists = {
        name: json.loads(column.to_json(orient="values", double_precision=15)) for name, column in frame.items()
    }
    assert reader.read(json.dumps(as_lists).encode()) == rows


def test_indexed_columns_are_matched_by_index_not_by_position(reader, rows):
    indexed = write_forms(rows)["indexed columns"]
    shuffled = {name: dict(reversed(values.items())) if name == "class" else values for name, values in indexed.items()}
    assert reader.read(json.dumps(shuffled).encode()) == rows


def test_whole_numbers_are_numbers_and_nothing_else_is(reader, rows):
    assert reader.read(json.dumps([rows[0] | {"mean area (mm²)": 500}]).encode())[0]["mean area (mm²)"] == 500.0
    for value in ("1.5", True, [1], {"a": 1}, "", "NaN"):
        status, answer = refuse(reader, [rows[0], rows[1] | {"class": value}])
        assert status == 400
        (fault,) = answer["detail"]
        assert (fault["row"], fault["field"]) == (1, "class") and fault[
            "message"
        ] == "must be a number; in training 0 to 8"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused_and_shown_as_text(reader, rows, text):
    body = json.dumps([rows[0] | {"class": 12345}]).replace("12345", text).encode()
    (fault,) = refuse(reader, body)[1]["detail"]
    assert fault["message"].startswith("must be a finite number") and fault["value"] in ("NaN", "Infinity", "-Infinity")


@pytest.mark.parametrize("number", ["1e39", "-3.5e38", "1" + "0" * 60, "-1" + "0" * 400])
def test_numbers_beyond_a_float32_are_refused(reader, rows, number):
    body = json.dumps([rows[0] | {"class": 12345}]).replace("12345", number).encode()
    (fault,) = refuse(reader, body)[1]["detail"]
    assert fault["message"] == "must be a number between -3.4e+38 and 3.4e+38, which is what a float32 holds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flag?": 1}, "must be true or false or null"),
        ({"flag?": "true"}, "must be true or false or null"),
        ({"1st colour": 3}, "must be a text or null; in training 'blue', 'red', 'sea green'"),
        ({"1st colour": True}, "must be a text or null; in training 'blue', 'red', 'sea green'"),
        ({"class": None}, "must be a number; in training 0 to 8"),
        ({"y": "yes"}, "this is the column that the model predicts; leave it out"),
        ({"1st color": "red"}, "unknown column (did you mean '1st colour'?)"),
        ({"zzz": 1}, "unknown column; /docs.json lists the known ones"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(reader, rows, change, message):
    (fault,) = refuse(reader, [rows[0] | change])[1]["detail"]
    ((field, value),) = change.items()
    assert fault == {"row": 0, "field": field, "message": message, "value": value}


def test_null_stands_where_training_had_gaps(reader, rows):
    gaps = {"flag?": None, "1st colour": None, "mean area (mm²)": None}
    assert reader.read(json.dumps([rows[0] | gaps]).encode()) == [rows[0] | gaps]


@pytest.mark.parametrize("dropped", [None, "text", [1, 2, 3], {"a": 1}, float("nan")])
def test_column_that_the_model_does_not_use_holds_anything(reader, rows, dropped):
    assert reader.read(json.dumps([rows[0] | {"always": dropped}]).encode())
    for form in ("columns", "indexed columns"):
        assert reader.read(json.dumps(write_forms(rows[:2])[form] | {"always": dropped}).encode()) == rows[:2]


@pytest.mark.parametrize("value", [[1, 2], {"0": 1}, 7])
def test_columns_that_the_model_does_not_use_decide_no_form(contract, rows, value):
    dropped = [
        feature | {"name": f"d{n}", "used": False, "reason": "noise"}
        for n, feature in enumerate(contract["features"] * 2)
    ]
    reader = BodyReader(contract | {"features": contract["features"] + dropped}, 100)
    ignored = {feature["name"]: value for feature in dropped}
    assert [
        {name: row[name] for name in rows[0]} for row in reader.read(json.dumps(rows[0] | ignored).encode())
    ] == rows[:1]
    for form in ("columns", "indexed columns"):
        assert reader.read(json.dumps(write_forms(rows[:2])[form] | ignored).encode()) == rows[:2]


def test_every_fault_of_a_request_is_listed(reader, rows):
    status, answer = refuse(reader, [rows[0] | {"class": "x", "flag?": 2}, 5, {**rows[2], "new": 1}, rows[3]])
    assert status == 400 and answer["error"] == "the request has 4 faults; nothing was predicted"
    assert [(fault["row"], fault["field"]) for fault in answer["detail"]] == [
        (0, "class"),
        (0, "flag?"),
        (1, None),
        (2, "new"),
    ]


def test_a_hundred_faults_are_listed_and_all_are_counted(reader, rows):
    status, answer = refuse(reader, [{}] * 50)
    assert status == 400 and len(answer["detail"]) == 100
    assert answer["error"] == "the request has 200 faults, of which the first 100 are listed; nothing was predicted"


def test_unknown_columns_beyond_the_listed_ones_are_counted(reader, rows):
    _, answer = refuse(reader, [rows[0] | {f"x{n}": 1 for n in range(5000)} | {"class": "y"}])
    assert answer["error"].startswith("the request has 5001 faults, of which the first 100 are listed")
    assert answer["detail"][0]["field"] == "class" and answer["detail"][99]["field"] == "x98"


def test_faults_without_number_are_not_counted_for_ever(contract):
    body = json.dumps([{f"x{n}": 1 for n in range(500)}] * 2000).encode()
    _, answer = refuse(BodyReader(contract, 10_000), body)
    assert answer["error"].startswith("the request has over 10000 faults")


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ([1, 2], {(2, "class")}),
        ([1, 2, 3, 4], {(3, "flag?"), (3, "1st colour"), (3, "mean area (mm²)")}),
    ],
)
def test_columns_of_other_length_lack_values(reader, rows, values, missing):
    _, answer = refuse(reader, write_forms(rows[:3])["columns"] | {"class": values})
    assert {(fault["row"], fault["field"]) for fault in answer["detail"]} == missing
    assert all(fault["message"].startswith("missing; it must be") for fault in answer["detail"])


def test_index_that_a_column_lacks_is_a_missing_value(reader, rows):
    body = write_forms(rows[:3])["indexed columns"]
    del body["class"]["1"]
    (fault,) = refuse(reader, body)[1]["detail"]
    assert (fault["row"], fault["field"]) == (1, "class")


def test_column_of_another_form_is_named(reader, rows):
    _, answer = refuse(reader, write_forms(rows[:3])["columns"] | {"class": 5})
    assert answer["detail"] == [
        {"row": None, "field": "class", "message": "must be a list, as other columns are", "value": 5}
    ]


def test_columns_of_other_forms_are_counted_beyond_a_hundred(contract, rows):
    body = {f"c{n}": [1] for n in range(400)} | {f"s{n}": 1 for n in range(150)}
    _, answer = refuse(BodyReader(contract, 100), body)
    assert len(answer["detail"]) == 100
    assert answer["error"].startswith(
        "the columns differ in form, which makes 150 faults, of which the first 100 are listed"
    )


def test_texts_of_the_caller_come_back_shortened(reader, rows):
    (fault,) = refuse(reader, [rows[0] | {"k" * 5000: "v" * 5000}])[1]["detail"]
    assert len(fault["field"]) == len(fault["value"]) == 100 and fault["value"].endswith("…")
    (fault,) = refuse(reader, [rows[0] | {"class": [1, 2]}])[1]["detail"]
    assert fault["value"] == "a list of 2"


def test_fault_far_down_has_its_own_row_number(contract, rows):
    _, answer = refuse(BodyReader(contract, 2000), [rows[0]] * 1234 + [rows[0] | {"class": "x"}] + [rows[0]] * 50)
    assert [fault["row"] for fault in answer["detail"]] == [1234]


def test_limit_of_rows_is_told(reader, rows):
    assert len(reader.read(json.dumps([rows[0]] * 100).encode())) == 100
    for body in (
        [rows[0]] * 101,
        write_forms([rows[0]] * 101)["columns"],
        write_forms([rows[0]] * 101)["indexed columns"],
    ):
        status, answer = refuse(reader, body)
        assert status == 413 and answer["error"] == "101 rows are too many; send at most 100 a request"


def test_lists_and_objects_without_number_are_refused_before_they_are_made(reader, rows):
    assert len(reader.read(json.dumps([rows[0] | {"always": [[]] * 1500}]).encode())) == 1
    for text in ("[],", "{},"):
        status, answer = refuse(reader, b"[" + text.encode() * 2001 + b"1]")
        assert status == 413 and answer["error"] == "the body has too many lists and objects; send at most 2000 a request"
