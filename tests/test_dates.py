"""Dates: read from files and requests in any form, and the same numbers at every hop."""

import json
import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from modeler import ModelerError
from modeler.data.association import measure_associations
from modeler.data.derive import derive_contract
from modeler.data.dialect import CsvFormat
from modeler.data.noise import find_noise
from modeler.data.rows import raw_records
from modeler.data.tables import load_table
from modeler.gate.callers import list_breaking_changes
from modeler.model.dates import count_column, count_value, name_parts, read_date
from modeler.model.graph import encode_columns, name_numbers
from modeler.service.body import BodyReader, RequestError, create_row_model
from modeler.service.openapi import make_example
from modeler.train.estimator import encode_table

FORMS = ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%b %d, %Y", "%Y/%m/%d %H:%M:%S", "%d/%m/%Y %I:%M:%S %p"]
MOMENTS = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)).map(lambda moment: moment.replace(microsecond=0))


def load(folder, told="", target="y", **columns):
    frame = pd.DataFrame(columns)
    if target not in frame:
        frame[target] = ["a", "b"] * (len(frame) // 2) + ["a"] * (len(frame) % 2)
    frame.to_csv(folder / "table.csv", index=False)
    return load_table(str(folder / "table.csv"), target, written=CsvFormat(columns=told))


def derive(table, **told):
    return derive_contract(table, table.frame, min_association=0, holdout=0.2, **told)


def read(contract, **values):
    row = make_example(contract) | values
    return BodyReader(contract, 100).read(json.dumps([row]).encode())[0]


def find_fault(contract, **values):
    with pytest.raises(RequestError) as refused:
        read(contract, **values)
    (fault,) = refused.value.answer["detail"]
    assert refused.value.status == 400 and fault["row"] == 0 and fault["field"] in values
    return fault["message"]


def days(count, form="%Y-%m-%d", start="2024-01-01"):
    return pd.date_range(start, periods=count).strftime(form)


# The numbers


@given(MOMENTS, st.booleans())
def test_numbers_of_a_date_are_those_of_the_calendar(moment, time):
    text = f"{moment.isoformat()}Z" if time else moment.isoformat()[:10]
    feature = {"name": "day", "time": time, "format": "%Y-%m-%d"}
    counted = dict(zip(name_parts(feature), count_value(text, feature), strict=True))
    whole = moment if time else datetime(moment.year, moment.month, moment.day)
    assert counted["day.days"] == (whole - datetime(1970, 1, 1)) / timedelta(days=1)
    expected = {"year": moment.year, "month": moment.month, "day": moment.day, "weekday": moment.weekday()}
    expected |= {"hour": moment.hour} if time else {}
    assert {name: counted[f"day.{name}"] for name in expected} == expected


@pytest.mark.medium
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FORMS), st.lists(MOMENTS, min_size=2, max_size=20, unique=True))
def test_any_date_in_any_form_gives_the_same_numbers_at_every_hop(tmp_path_factory, form, moments):
    folder = tmp_path_factory.mktemp("dates")
    has_time = "S" in form
    moments = [moment if has_time else datetime(moment.year, moment.month, moment.day) for moment in moments]
    texts = [moment.strftime(form) for moment in moments]
    table = load(folder, f'"day=date:{form}"', day=texts, x=range(len(texts)))
    assert table.frame["day"].tolist() == moments
    (feature,) = [feature for feature in derive(table)["features"] if feature["name"] == "day"]
    feature = {"name": "day", "time": True, "format": form} if not feature["used"] else feature
    expected = count_column(table.frame["day"], feature)
    iso = [record["day"] for record in raw_records(table.frame)]
    zoned = [(moment - timedelta(hours=2)).isoformat() + "-02:00" for moment in moments]
    for sent in [texts, iso, zoned if has_time else iso]:
        np.testing.assert_array_equal(count_column(sent, feature), expected)
        singly = [count_value(text, feature) for text in sent]
        np.testing.assert_array_equal(np.array(singly, np.float32), expected)


def test_estimator_and_graph_are_given_the_same_columns(tmp_path):
    table = load(
        tmp_path,
        colour=["red", "blue", "blue", "red"] * 10,
        day=days(40),
        x=[0.5, 1, 2, 3] * 10,
        flag=[True, False, True, True] * 10,
    )
    contract = derive(table)
    names = ["x", "flag", "day.days", "day.year", "day.month", "day.day", "day.weekday"]
    assert name_numbers(contract) == names
    X = encode_table(table.frame, contract)
    assert list(X.columns) == [*names, "colour"] and set(X.dtypes[:-1]) == {np.dtype("float32")}
    np.testing.assert_array_equal(X[names], encode_columns(table.frame, contract)["numbers"])


def test_missing_date_gives_null_in_each_number(tmp_path):
    table = load(tmp_path, day=[*days(39), None], x=range(40))
    contract = derive(table)
    assert np.isnan(encode_table(table.frame, contract)[["day.days", "day.weekday"]].iloc[39]).all()
    feature = next(feature for feature in contract["features"] if feature["name"] == "day")
    assert feature["missing"] and np.isnan(count_value(None, feature)).all()
    assert read(contract, day=None)["day"] is None


# Files


@pytest.mark.parametrize("form", FORMS)
def test_format_is_found_and_told(tmp_path, form):
    table = load(tmp_path, day=pd.date_range("2023-01-05 01:00", periods=40, freq="25h").strftime(form), x=range(40))
    assert table.frame["day"].dtype.kind == "M" and f"dates: 'day' as {form}" in table.notes
    feature = derive(table)["features"][0]
    assert (feature["type"], feature["format"], feature["time"]) == ("date", form, "%M" in form)
    begin = "2023-01-05T01:00:00Z" if feature["time"] else "2023-01-05"
    assert feature["min"] == feature["example"] == begin


def test_two_readings_are_asked_for_unless_another_column_decides(tmp_path):
    either = ["03/04/2025", "05/06/2025"] * 10
    with pytest.raises(
        ModelerError, match=r"'day' can be read in 2 ways, such as '03/04/2025'; say .*day=date:%d/%m/%Y.* or "
    ):
        load(tmp_path, day=either, x=range(20))
    assert load(tmp_path, "day=date:%m/%d/%Y", day=either, x=range(20)).frame["day"][0] == datetime(2025, 3, 4)
    for form, month in (("%d/%m/%Y", 4), ("%m/%d/%Y", 3)):
        table = load(tmp_path, day=either, paid=days(20, form, start="2025-01-20"))
        assert table.frame["day"][0].month == month


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("yesterday", "%Y-%m-%d"),
        ("2024-02-30", "%Y-%m-%d"),
        ("2024-01-01T10:00:00", "%Y-%m-%d"),
        ("31.12.2024", "%Y-%m-%d"),
        ("0000-01-01", "%Y-%m-%d"),
        ("10000-01-01", "%Y-%m-%d"),
        ("2024-01-01T10:00:00", "%Y-%m-%dT%H:%M:%S%z"),
    ],
)
def test_value_that_keeps_a_column_from_being_a_date_is_told_with_its_row(tmp_path, value, form):
    texts = [text.replace("+0000", "Z") for text in days(40, form).where(~days(40, form).str.endswith("S"))]
    texts = [text if "%z" not in form else f"{text[:19]}Z" for text in texts]
    table = load(tmp_path, day=[*texts, value], x=range(41))
    (note,) = [note for note in table.notes if "'day'" in note and "date" in note]
    assert f"is no date because of {value!r} in row 41 of its 41" in note
    with pytest.raises(ModelerError, match="is no date because of .* in row 41 of its 41"):
        load(tmp_path, f"day=date:{form}", day=[*texts, value], x=range(41))


@pytest.mark.parametrize(
    "texts", [["10:30", "11:45"], ["1.2.3", "4.5.6"], ["2024", "2025"], ["12-34", "56-78"], ["a1", "b2"]]
)
def test_what_only_looks_like_a_date_is_none(tmp_path, texts):
    assert load(tmp_path, day=texts * 20, x=range(40)).frame["day"].dtype.kind != "M"


def test_parquet_has_days_moments_zones_and_texts(tmp_path):
    moments = pd.date_range("2024-01-01 12:00", periods=40, tz="Europe/Berlin")
    frame = pd.DataFrame(
        {"day": moments.date, "at": moments, "text": days(40, "%d.%m.%Y", "2024-03-01"), "y": ["a", "b"] * 20}
    )
    frame.to_parquet(tmp_path / "table.parquet")
    table = load_table(str(tmp_path / "table.parquet"), "y")
    described = {feature["name"]: feature for feature in derive(table)["features"]}
    assert [described[name]["time"] for name in ("day", "at", "text")] == [False, True, False]
    assert [described[name]["min"] for name in ("day", "at", "text")] == [
        "2024-01-01",
        "2024-01-01T11:00:00Z",
        "2024-03-01",
    ]
    assert described["text"]["format"] == "%d.%m.%Y"


def test_date_outside_the_calendar_of_a_parquet_file_is_named(tmp_path):
    frame = pd.DataFrame({"day": np.array(["2024-01-01", "12024-01-01"], "datetime64[s]"), "y": ["a", "b"]})
    frame.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(
        ModelerError, match="'day' has a date before the year 1 or after 9999 in row 2; mend or empty it"
    ):
        load_table(str(tmp_path / "table.parquet"), "y")


# Association


def test_weekday_alone_is_a_signal():
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=700)})
    frame["y"] = np.where(frame["day"].dt.day_of_week >= 5, "yes", "no").astype(object)
    assert measure_associations(frame, "y", "classification")["day"] > 0.9
    assert find_noise(frame, "y", "classification") == []


def test_date_of_noise_is_seldom_kept():
    """Of 100 such tables 17 keep it, as many as keep a number of noise; without a level for its parts together, half do."""
    kept, days = 0, pd.date_range("2020-01-01", periods=700)
    for seed in range(12):
        y = np.random.default_rng(seed).choice(["yes", "no"], size=700).astype(object)
        kept += find_noise(pd.DataFrame({"day": days, "y": y}), "y", "classification") == []
    assert kept <= 4


# Types that a person settles


def test_settled_types_hold_and_keep_columns_that_would_be_dropped(tmp_path):
    zips = [f"{n:05}" for n in range(40)]
    told = "zip=category, code=category, x=drop, flag=boolean"
    table = load(tmp_path, told, zip=zips, code=[1, 2] * 20, x=range(40), flag=[0, 1] * 20)
    described = {feature["name"]: feature for feature in derive(table)["features"]}
    assert [described[name]["type"] for name in described] == ["category", "category", "number", "boolean"]
    assert described["code"]["categories"] == ["1", "2"] and described["zip"]["used"]
    assert described["x"]["reason"] == "left out by -p columns"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("dya=date", "columns names 'dya', which is no column (did you mean 'day'"),
        ("day", "columns names 'day', which is no column, and a part is given as NAME=TYPE"),
        ("day=moment", "columns makes 'day' a 'moment'; a type is one of number, boolean, category, date, drop"),
        ("day=date:%H", "columns reads 'day' as '%H'; a format has %d"),
        ("day=date:%Y-%d-%m", "columns reads 'day' as '%Y-%d-%m'"),
        ("day=category,day=date", "columns settles 'day' twice"),
        ("day=number", "columns makes 'day' a number, and '2024-01-01' in row 1 is none"),
        ("x=boolean", "columns makes 'x' a boolean, and '2' in row 3 is none"),
        ("x=date", "column 'x' holds '0', which is no date that we know; give its format"),
        ("y=drop", "columns drops the target 'y'"),
        ("y=date", "column 'y' holds 'a', which is no date"),
    ],
)
def test_type_that_cannot_be_settled_is_a_sentence(tmp_path, told, sentence):
    with pytest.raises(ModelerError, match=re.escape(sentence)):
        load(tmp_path, told, day=days(40), x=range(40))


# Requests


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    at = pd.date_range("2024-01-01 08:30", periods=40, freq="7h").strftime("%d.%m.%Y %H:%M")
    return derive(load(folder, day=days(40), at=at, x=range(40)))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "day",
            "2025-02-30",
            "'2025-02-30' does not exist: day is out of range for month; it must be a date, such as 2024-01-01; in",
        ),
        ("day", "0000-01-01", "'0000-01-01' does not exist: year 0 is out of range"),
        ("day", "10000-01-01", "'10000-01-01' is no date"),
        (
            "day",
            "yesterday",
            "'yesterday' is no date; it must be a date, such as 2024-01-01; in training 2024-01-01 to 2024-02-09",
        ),
        ("day", "2024-01-05T10:00", "'2024-01-05T10:00' has a time of day, where the data have days"),
        ("day", 1704067200000, "must be a date, such as 2024-01-01; in training"),
        ("day", None, "must be a date, such as 2024-01-01"),
        ("day", "", "'' is no date"),
        ("day", "2" * 5000, "is no date"),
        (
            "at",
            "01.13.2024 08:00",
            "is no date; it must be a date, such as 2024-01-01T08:30:00Z or 01.01.2024 08:30; in training",
        ),
        ("at", "0001-01-01T00:00:00+05:00", "does not exist"),
    ],
)
def test_text_that_is_no_date_is_a_fault_with_what_is_wrong(contract, field, value, message):
    assert message in find_fault(contract, **{field: value})


def test_openapi_says_which_texts_are_dates(contract):
    properties = TypeAdapter(create_row_model(contract)).json_schema()["properties"]
    assert [properties[name].get("format") for name in ("day", "at", "x")] == ["date", "date-time", None]
    assert "such as 2024-01-01T08:30:00Z or 01.01.2024 08:30" in properties["at"]["description"]
    assert properties["day"]["examples"] == ["2024-01-01"]


def test_request_may_have_the_format_of_the_file_zones_and_midnight(contract):
    row = read(contract, at="01.01.2024 09:30", day="2024-01-03T00:00:00.000")
    features = {feature["name"]: feature for feature in contract["features"]}
    assert read_date(row["at"], features["at"]) == read_date("2024-01-01T10:30:00+01:00", features["at"])
    assert read_date(row["day"], features["day"]) == read_date("2024-01-03", features["day"])
    in_utc = datetime(2024, 1, 1, 9, 30, tzinfo=timezone.utc)
    assert read_date(in_utc.isoformat(), features["at"]) == read_date("2024-01-01T09:30:00", features["at"])


def test_date_that_changes_for_callers_is_named(contract):
    day, at, x = contract["features"]
    stricter = contract | {"features": [day, at | {"time": False, "format": "%d/%m/%Y"}, x]}
    assert list_breaking_changes(contract, contract) == []
    assert list_breaking_changes(contract, stricter) == [
        "'at' may no longer have a time of day",
        "'at' may no longer be sent as %d.%m.%Y %H:%M",
    ]
    assert list_breaking_changes(contract, contract | {"features": [day | {"type": "category"}, at, x]}) == [
        "'day' was of type date and is of type category"
    ]
