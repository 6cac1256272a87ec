"""Batch scoring: the service's answers and faults for every row of a file, in any form, by any number of workers."""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet
import pytest
from conftest import ROOT, needs_linux, read_only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

import pipeline
from modeler.data.derive import derive_contract
from modeler.data.rows import raw_records
from modeler.data.tables import Table
from modeler.model.answers import decide_classes, decode_answers
from modeler.model.contract import used_features, write_json
from modeler.model.stored import StoredModel, content_version
from modeler.score.job import describe_job, open_source
from modeler.score.output import MARK, Draft
from modeler.score.parquet import GroupWriter, Slice, read_slices
from modeler.score.places import find_place, list_files
from modeler.score.scorer import Scorer
from modeler.score.source import ParquetSource
from modeler.service.body import RequestError
from modeler.service.predictor import Predictor
from modeler.train.estimator import convert_pipeline, encode_table

USED = ["size", "count", "flag", "sure", "colour", "code", "day", "at"]


def make_frame(rows: int, seed: int = 0) -> pd.DataFrame:
    """Numbers, booleans, texts and dates, each with and without gaps, and an id that no model uses."""
    rng = np.random.default_rng(seed)

    def gaps(values, share=0.1):
        return pd.Series(values, dtype=object).where(rng.random(rows) >= share, None)

    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D")
    frame = pd.DataFrame({
        "id": [f"n{number:06}" for number in range(rows)],
        "size": pd.Series(rng.normal(50, 20, rows).round(3)).where(rng.random(rows) >= 0.1),
        "count": rng.integers(0, 9, rows),
        "flag": gaps(rng.random(rows) > 0.5),
        "sure": rng.random(rows) > 0.5,
        "colour": gaps(rng.choice(["red", "blue", "sea, green"], rows)),
        "code": rng.choice(["007", "010", "100"], rows),
        "day": days,
        "at": pd.Series(days + pd.to_timedelta(rng.integers(0, 1440, rows), "min")).where(rng.random(rows) >= 0.1),
    })  # fmt: skip
    signal = frame["size"].fillna(50) / 20 + frame["count"] / 3 + (frame["colour"] == "red") + frame["sure"] * 1
    return frame.assign(y=signal + rng.normal(scale=0.5, size=rows))


def fit_model(folder: Path, kind: str, written: dict | None = None) -> StoredModel:
    """A forest on these columns, as the store holds it; `kind` is the target: two, several or values."""
    frame = make_frame(400).drop(columns="id")
    if kind != "values":
        labels = {"two": ["no", "yes"], "several": [1, 2, 3]}[kind]
        frame["y"] = np.array(labels, dtype=object)[pd.qcut(frame["y"], len(labels), labels=False)]
    table = Table("made", frame.infer_objects(), "y", formats=written or {})
    contract = derive_contract(table, table.frame, min_association=0, holdout=0.2)
    assert [feature["name"] for feature in contract["features"] if feature["used"]] == USED
    X = encode_table(table.frame, contract)
    texts = [feature["name"] for feature in used_features(contract) if feature["type"] == "category"]
    columns = ColumnTransformer([
        ("numbers", SimpleImputer(strategy="median"), [name for name in X if name not in texts]),
        ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
    ])  # fmt: skip
    forest = (RandomForestRegressor if kind == "values" else RandomForestClassifier)(5, random_state=0)
    fitted = Pipeline([("columns", columns), ("model", forest)]).fit(X, np.array(table.frame["y"].tolist()))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(convert_pipeline(fitted, X))
    write_json(folder / "contract.json", contract)
    output = fitted.predict(X) if kind == "values" else fitted.predict_proba(X)
    rows = raw_records(table.frame.drop(columns="y"))
    write_json(folder / "golden.json", {"rows": rows[:32], "answers": decode_answers(output, contract)[:32]})
    for name in ("metrics", "verdict"):
        write_json(folder / f"{name}.json", {"of": name})
    write_json(folder / "provenance.json", {"parameters": {"eda.ipynb": {}}})
    return StoredModel(f"made:{content_version(folder)}", folder)


def make_store(home: Path) -> StoredModel:
    """A store that holds the model `made`, of two classes."""
    model = fit_model(home / "models" / "made" / "new", "two")
    folder = model.path.rename(model.path.with_name(model.version))
    context = {"framework_name": "", "framework_versions": {}, "bentoml_version": "1.4.39", "python_version": "3.11"}
    described = {"name": "made", "version": model.version, "module": "", "labels": {}, "options": {}, "metadata": {},
                 "context": context, "bentoml_version": "1.4.39", "signatures": {}, "api_version": "v1",
                 "creation_time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    write_json(folder / "model.yaml", described)  # JSON is YAML
    (folder.parent / "latest").write_text(model.version)
    return StoredModel(model.tag, folder)


@contextmanager
def hold_store(home: Path):
    """Such a store, for this process and those that it starts."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models.model import ModelStore

    model = make_store(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(home))
        BentoMLContainer.model_store.set(ModelStore(home / "models"))
        yield model
    BentoMLContainer.model_store.reset()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with hold_store(tmp_path_factory.mktemp("store")) as model:
        yield model


@pytest.fixture(scope="module")
def predictor(store) -> Predictor:
    return Predictor(store, sys.maxsize)


def run(capsys, *words) -> tuple[int, str, str]:
    """The exit status of a scoring with the model `made` in this process, and what it printed and said."""
    status = pipeline.main(["score", *map(str, words), "--model", "made"])
    return status, *capsys.readouterr()


def score_json(capsys, *words) -> dict:
    status, printed, said = run(capsys, *words, "--json")
    assert status == 0, said
    return json.loads(printed)


def refuse(capsys, output, *words, status=1) -> str:
    """The sentence of a scoring that fails and leaves nothing behind."""
    before = sorted(Path(output).parent.iterdir())
    given, printed, said = run(capsys, *words, output)
    assert given == status and not printed
    assert sorted(Path(output).parent.iterdir()) == before
    assert "Traceback" not in said
    return said.partition("pipeline.py: ")[2]


def ask(predictor: Predictor, row: dict) -> tuple[dict | None, list[dict]]:
    """The service's answer to a row, or its faults."""
    try:
        (answer,) = from_json(predictor.answer(to_json([row])).body)["predictions"]
        return answer, []
    except RequestError as error:
        return None, error.answer["detail"]


def same_answers(table: pa.Table, answers: list[dict | None]) -> None:
    """Rows of an output hold these answers of the service; None is a blank one."""
    assert len(table) == len(answers)
    for row, answer in zip(table.to_pylist(), answers):
        if answer is None:
            assert row["warnings"] is None and row.get("label", row.get("value")) is None
            continue
        assert row["warnings"] == len(answer["warnings"])
        if "label" in answer:
            assert row["label"] == answer["label"]
            given = {name: row[f"probability:{name}"] for name in answer["probabilities"]}
            assert given == pytest.approx(answer["probabilities"], abs=1e-6)
        else:
            rest = {name: answer[name] for name in answer if name != "warnings"}
            assert {name: row[name] for name in rest} == pytest.approx(rest, rel=1e-6)


def make_scorer(predictor: Predictor, schema: pa.Schema, kept: list[str], faults: str, **changes) -> Scorer:
    source = ParquetSource(find_place("rows.parquet"), {"rows.parquet": schema}, [])
    return Scorer(predictor, replace(describe_job(source, predictor, kept, "parquet", faults, []), **changes))


def write_csv(frame: pd.DataFrame, path: Path, **settings) -> Path:
    frame.to_csv(path, index=False, date_format="%Y-%m-%d %H:%M:%S", **settings)
    return path


# The same answers and faults as the service


NUMBERS = st.one_of(
    st.none(), st.floats(width=64), st.integers(-5, 12), st.sampled_from([1e39, -3.5e38, np.inf, np.nan, 3.4e38])
)
TEXTS = st.one_of(st.none(), st.sampled_from(["red", "007", "blue", "", "NaN", "café", "=1"]), st.text(max_size=5))
DAYS = st.one_of(st.none(), st.dates(date(1, 1, 1)), st.just(date(2024, 5, 1)))
SECONDS = st.datetimes(datetime(1, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
MOMENTS = st.one_of(st.none(), SECONDS, st.just(datetime(2024, 5, 1, 12, 30)))
DATE_TEXTS = st.sampled_from(
    [None, "2024-05-01", "2024-05-01T10:00:00Z", "2024-02-30", "x", "", "2024-05-01T00:00+02:00"]
)
ROW = st.fixed_dictionaries({
    "size": NUMBERS, "count": NUMBERS, "flag": st.sampled_from([None, True, False]), "sure": st.sampled_from([None, True, False]),
    "colour": TEXTS, "code": TEXTS, "day": DAYS, "at": MOMENTS, "day text": DATE_TEXTS, "at text": DATE_TEXTS,
})  # fmt: skip


KINDS = {
    "size": pa.float64(),
    "count": pa.float64(),
    "flag": pa.bool_(),
    "sure": pa.bool_(),
    "colour": pa.string(),
    "code": pa.string(),
}
DATES = [
    {"day": pa.date32(), "at": pa.timestamp("us")},
    {"day": pa.date64(), "at": pa.timestamp("ms")},
    {"day": pa.timestamp("s"), "at": pa.timestamp("us", "+02:00")},
    {"day": pa.timestamp("us"), "at": pa.timestamp("ms", "America/New_York")},
    {"day": pa.string(), "at": pa.string()},
]


def write_moment(moment) -> str | None:
    if isinstance(moment, datetime) and moment.time() != datetime.min.time():
        return f"{moment.isoformat()}Z"
    return moment and moment.isoformat()[:10]


def make_column(values: list, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.date32() if kind.unit == "s" else pa.timestamp("us")).cast(kind)
    return pa.array(values, kind)


@pytest.mark.medium
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from(DATES), st.booleans())
def test_every_row_gets_the_services_answer_or_its_faults(predictor, rows, dates, coded):
    as_texts, sent = dates["day"] == pa.string(), []
    for row in rows:
        if as_texts:
            row |= {"day": row["day text"], "at": row["at text"]}
        elif dates["day"] == pa.timestamp("us"):
            row |= {"day": row["at"]}
        written = {} if as_texts else {name: write_moment(row[name]) for name in dates}
        missing = {name: None for name in ("size", "count") if row[name] != row[name]}  # as in a retrain
        sent.append({name: row[name] for name in USED} | written | missing)
    columns = {name: make_column([row[name] for row in rows], kind) for name, kind in (KINDS | dates).items()}
    if coded:
        texts = [name for name, column in columns.items() if column.type == pa.string()]
        columns |= {name: columns[name].dictionary_encode() for name in texts}
    batch = pa.record_batch(columns)
    table, faults = make_scorer(predictor, batch.schema, [], "blank").score(batch, 100)
    asked = [ask(predictor, row) for row in sent]
    same_answers(table, [answer for answer, _ in asked])
    assert faults == [fault | {"row": 100 + number} for number, (_, found) in enumerate(asked) for fault in found]


def test_classes_of_many_rows_are_those_of_single_ones():
    rng, target = np.random.default_rng(0), {"name": "y", "classes": ["a", "b", "c"]}
    outputs = rng.dirichlet([1, 1, 1], 3000).astype(np.float32)
    outputs[::3] = outputs[::3].round(1)
    outputs[:10] = [1 / 3, 1 / 3, 1 / 3]
    outputs[10:20, :2] = np.array([0.5, 0.5]) + np.linspace(-2e-5, 2e-5, 10)[:, None] * [1, -1]
    outputs[10:20, 2] = 0
    two = {"name": "y", "classes": ["a", "b"], "positive": "b", "threshold": 0.3}
    pairs = np.stack([1 - outputs[:, 0], outputs[:, 0]], axis=1)
    pairs[:200, 1] = 0.3 + np.linspace(-2e-5, 2e-5, 200)
    for output, told in ((outputs, target), (pairs, two), (pairs[:1], two)):
        answers = decode_answers(output, {"target": told})
        probabilities, chosen = decide_classes(output, {"target": told})
        assert [told["classes"][position] for position in chosen] == [answer["label"] for answer in answers]
        assert probabilities.tolist() == [
            [answer["probabilities"][name] for name in told["classes"]] for answer in answers
        ]


@pytest.mark.parametrize("kind", ["several", "values"])
def test_every_target_is_answered_and_low_and_high_are_kept(kind, tmp_path, monkeypatch):
    model = fit_model(tmp_path / "model", kind)
    predictor, frame = Predictor(model, sys.maxsize), make_frame(60, seed=1)
    if kind == "values":  # as an interval gives them

        def decode(output, contract):
            return [
                answer | {"low": answer["value"] - 1, "high": answer["value"] + 1}
                for answer in decode_answers(output, contract)
            ]

        for module in ("modeler.score.scorer", "modeler.service.predictor"):
            monkeypatch.setattr(f"{module}.decode_answers", decode)
    frame.to_parquet(tmp_path / "rows.parquet")
    source = open_source(place := find_place(str(tmp_path / "rows.parquet")), list_files(place), predictor, {})
    job = describe_job(source, predictor, ["id"], "parquet", "refuse", [])
    (piece,) = [slices for _, slices in source.list_chunks()]
    (table,) = Scorer(predictor, job).work(0, 0, piece, False).answers
    answers = [ask(predictor, row)[0] for row in raw_records(frame[USED])]
    same_answers(table, answers)
    names = {"several": ["label", *(f"probability:{name}" for name in "123")], "values": ["value", "low", "high"]}[kind]
    assert table.column_names == ["id", *names, "warnings"]
    assert table.schema.metadata == {b"model": model.tag.encode()}


def test_date_beyond_the_calendar_is_a_fault(predictor):
    batch = pa.RecordBatch.from_pandas(make_frame(2))
    late = pa.array([253_402_300_800, 0], pa.int64()).cast(pa.timestamp("s"))  # the year 10000
    batch = batch.set_column(batch.schema.names.index("day"), "day", late)
    _, (fault,) = make_scorer(predictor, batch.schema, [], "skip").score(batch, 0)
    assert (fault["row"], fault["field"]) == (0, "day") and "is no date; it must be a date" in fault["message"]


AMOUNTS = st.sampled_from(
    [None, "$1,050.5", "$ 12", "-$3", "12", "12.5", "($40)", "$1e39", "abc", "", "$12.345,6", "€ 5"]
)
FLAGS = st.sampled_from([None, "yes", "No", " YES ", "true", "1", "", "maybe"])


@pytest.fixture(scope="module")
def priced(tmp_path_factory) -> Predictor:
    """A model of a file that has numbers as amounts, and booleans as yes and no."""
    folder = tmp_path_factory.mktemp("priced") / "model"
    return Predictor(fit_model(folder, "two", {"size": "$1,234.5", "flag": ["no", "yes"]}), sys.maxsize)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(AMOUNTS, FLAGS), min_size=1, max_size=12), st.booleans())
def test_amounts_and_yes_and_no_are_read_as_the_service_reads_them(priced, pairs, coded):
    sent = raw_records(make_frame(len(pairs))[USED])
    for row, (size, flag) in zip(sent, pairs):
        row |= {"size": size, "flag": flag}
    batch = pa.RecordBatch.from_pandas(make_frame(len(pairs)))
    for name in ("size", "flag"):
        column = pa.array([row[name] for row in sent], pa.string())
        place = batch.schema.names.index(name)
        batch = batch.set_column(place, name, column.dictionary_encode() if coded else column)
    table, faults = make_scorer(priced, batch.schema, [], "blank").score(batch, 0)
    asked = [ask(priced, row) for row in sent]
    same_answers(table, [answer for answer, _ in asked])
    assert faults == [fault | {"row": number} for number, (_, found) in enumerate(asked) for fault in found]


@pytest.mark.parametrize("form", ["${:,.3f}", "{:.3f}"])
def test_file_may_have_amounts_or_plain_numbers(form, priced, tmp_path):
    frame = make_frame(80)
    answers = [ask(priced, row)[0] for row in raw_records(frame[USED])]
    written = frame.assign(
        size=frame["size"].map(form.format, na_action="ignore"), flag=frame["flag"].map({True: "Yes", False: "no"})
    )
    place = find_place(str(write_csv(written, tmp_path / "rows.csv")))
    source = open_source(place, list_files(place), priced, {})
    scorer = Scorer(priced, describe_job(source, priced, ["id"], "parquet", "refuse", []))
    (block,) = source.read_blocks(["id", *USED], priced.contract, ["id"])
    table, faults = scorer.score(block, 0)
    assert faults == []
    same_answers(table, answers)


def test_text_that_the_service_takes_for_a_number_is_answered_as_it_reads_it(predictor, monkeypatch):
    """As it does where the contract says how numbers are written as texts."""
    frame, read = make_frame(30), predictor.reader.read

    def read_numbers(body: bytes) -> list[dict]:
        rows = from_json(body)
        for row in rows:
            row["count"] = float(row["count"].removesuffix(" pieces"))
        return read(to_json(rows))

    expected = [ask(predictor, row)[0] for row in raw_records(frame[USED])]
    monkeypatch.setattr(predictor.reader, "read", read_numbers)
    batch = pa.RecordBatch.from_pandas(frame.assign(count=frame["count"].map("{} pieces".format)))
    table, faults = make_scorer(predictor, batch.schema, [], "refuse").score(batch, 0)
    assert faults == []
    same_answers(table, expected)


def test_row_without_a_finite_answer_is_a_fault_in_the_services_words(predictor, tmp_path, monkeypatch):
    frame, run_graph = make_frame(20), predictor.graph.run

    def run(inputs):
        output = run_graph(inputs).copy()
        output[inputs["numbers"][:, 1] > 6] = np.nan
        return output

    monkeypatch.setattr(predictor.graph, "run", run)
    batch = pa.RecordBatch.from_pandas(frame)
    answered, faults = make_scorer(predictor, batch.schema, ["id"], "skip").score(batch, 0)
    lost = np.flatnonzero(frame["count"] > 6).tolist()
    assert lost and [fault["row"] for fault in faults] == lost
    assert faults[0]["message"] == ask(predictor, raw_records(frame[USED])[lost[0]])[1][0]["message"]
    assert answered["id"].to_pylist() == frame["id"].drop(lost).tolist()


# Files


@pytest.fixture(scope="module")
def rows(store, predictor, tmp_path_factory):
    """500 rows as a Parquet file, and the service's answers to them."""
    frame = make_frame(500, seed=2)
    folder = tmp_path_factory.mktemp("rows")
    frame.to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet", frame, [ask(predictor, row)[0] for row in raw_records(frame[USED])]


DIALECTS = {
    "plain": {},
    "semicolons and decimal commas": {"sep": ";", "decimal": ","},
    "tabs in UTF-16": {"sep": "\t", "encoding": "utf-16"},
    "pipes with a byte order mark": {"sep": "|", "encoding": "utf-8-sig"},
    "everything in quotes": {"quoting": 1},
    "Latin-1": {"encoding": "cp1252"},
    "Windows lines": {"lineterminator": "\r\n"},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_answers_of_parquet(dialect, rows, tmp_path, capsys):
    _, frame, answers = rows
    path = write_csv(frame.assign(note="größer, 1"), tmp_path / "rows.csv", **DIALECTS[dialect])
    result = score_json(capsys, path, tmp_path / "out.parquet", "--keep", "id,note")
    table = pa.parquet.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == frame["id"].tolist() and set(table["note"].to_pylist()) == {"größer, 1"}
    same_answers(table, answers)
    assert {name: result[name] for name in ("rows", "answered", "faults")} == {
        "rows": 500,
        "answered": 500,
        "faults": 0,
    }
    assert result.keys() == {
        "model",
        "rows",
        "answered",
        "faults",
        "output",
        "seconds",
        "rows_per_second",
        "peak_memory",
    }


def test_texts_of_a_csv_file_mean_what_the_contract_says(store, predictor, tmp_path, capsys):
    header = ",".join(["id", "note", *USED])
    lines = [
        "1,NA,10,3,true,FALSE,NA,007,2024-05-01,2024-05-01 10:00:00",
        '2,,"1,050.5",4,1,0,red,10,2024-05-01,2024-05-01T10:00:00+02:00',
        "007,=1+1, 5 ,5,,True,null,0,2024-05-02,",
    ]
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]) + "\n")
    score_json(capsys, tmp_path / "rows.csv", tmp_path / "out.parquet", "--keep", "all")
    table = pa.parquet.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == ["1", "2", "007"] and table["note"].to_pylist() == ["NA", None, "=1+1"]
    assert table["size"].to_pylist() == ["10", "1,050.5", " 5 "]
    sent = [
        dict(zip(USED, [10, 3, True, False, None, "007", "2024-05-01", "2024-05-01T10:00:00"])),
        dict(zip(USED, [1050.5, 4, True, False, "red", "10", "2024-05-01", "2024-05-01T08:00:00Z"])),
        dict(zip(USED, [5, 5, None, True, None, "0", "2024-05-02", None])),
    ]
    same_answers(table, [ask(predictor, row)[0] for row in sent])


def test_text_among_the_numbers_of_a_later_block_is_found(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("modeler.score.csv_source.BLOCK", 4000)
    frame = make_frame(300).astype({"count": object})
    frame.loc[250, "count"] = "many"
    path = write_csv(frame, tmp_path / "rows.csv")
    score_json(capsys, path, tmp_path / "out.csv", "--faults", "skip")
    faults = pa.csv.read_csv(tmp_path / "out.csv.faults.csv").to_pylist()
    message = "must be a number; in training 0 to 8"
    assert faults == [{"row": 250, "field": "count", "message": message, "value": "many"}]
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == frame["id"].drop(250).tolist()


def test_faults_are_skipped_or_left_blank_and_listed(rows, tmp_path, capsys):
    frame = rows[1].copy()
    frame["count"] = frame["count"].astype("Int64")
    frame.loc[[3, 77], "count"] = pd.NA
    frame.loc[77, "size"] = np.inf
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    for rule in ("skip", "blank"):
        result = score_json(capsys, tmp_path / "rows.parquet", tmp_path / f"{rule}.parquet", "--faults", rule)
        assert (result["rows"], result["answered"], result["faults"]) == (500, 498, 3)
        faults = pd.read_csv(tmp_path / f"{rule}.parquet.faults.csv", dtype=str, keep_default_na=False)
        assert list(faults) == ["row", "field", "message", "value"]
        told = faults[["row", "field", "value"]].to_numpy().tolist()
        assert told == [["3", "count", ""], ["77", "size", "Infinity"], ["77", "count", ""]]
    skipped, blank = (pa.parquet.read_table(tmp_path / f"{rule}.parquet") for rule in ("skip", "blank"))
    answers = [None if number in (3, 77) else answer for number, answer in enumerate(rows[2])]
    same_answers(blank, answers)
    assert blank["id"].to_pylist() == frame["id"].tolist()
    same_answers(skipped, [answer for answer in answers if answer])


def test_refusal_names_the_first_twenty_faults_and_writes_nothing(rows, tmp_path, capsys):
    frame = rows[1].copy()
    frame["colour"] = frame["colour"].where(frame.index % 20 != 7, None)
    frame["code"] = frame["code"].astype(object).where(frame.index % 20 != 7, None)
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    said = refuse(capsys, tmp_path / "out.parquet", tmp_path / "rows.parquet")
    named = said.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in named] == [f"row {row}, 'code'" for row in range(7, 400, 20)]
    assert (
        said.startswith(f"{tmp_path}/rows.parquet has rows that made:")
        and "must be a text; in training '007', '010', '100'" in named[0]
    )
    assert said.splitlines()[0].endswith("leaves their answers empty. 20 faults, the first, rows counted from 0:")
    frame[7:8].to_parquet(tmp_path / "one.parquet")
    assert " 1 fault, rows counted" in refuse(capsys, tmp_path / "out.parquet", tmp_path / "one.parquet")


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_faults_of_the_columns_come_all_at_once_before_any_row(form, rows, tmp_path, capsys):
    frame = rows[1].drop(columns=["at", "code"]).rename(columns={"count": "counts"}).assign(sure=1, flag=b"x")
    path = tmp_path / f"rows.{form}"
    frame.to_parquet(path) if form == "parquet" else write_csv(frame, path)
    said = refuse(capsys, tmp_path / "out.parquet", path)
    assert " (--model names another), " in said.splitlines()[0]
    assert "'count' is missing (did you mean 'counts'?); it must be a number; in training 0 to 8" in said
    assert "'code' is missing; it must be a text" in said and "'at' is missing" in said
    types = ["'sure' has values of the type int64; it must be true or false", "'flag' has values of the type binary"]
    assert all((sentence in said) == (form == "parquet") for sentence in types)


def test_every_file_of_a_folder_has_to_fit(rows, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    rows[1].to_parquet(tmp_path / "in" / "a.parquet")
    rows[1].drop(columns="day").assign(id=1).to_parquet(tmp_path / "in" / "b.parquet")
    said = refuse(capsys, tmp_path / "out.parquet", tmp_path / "in")
    assert f"'day' in {tmp_path}/in/b.parquet is missing" in said
    assert f"'id' in {tmp_path}/in/b.parquet has the type int64, and" in said


def test_folder_and_pattern_are_read_in_the_order_of_their_names(rows, tmp_path, capsys):
    _, frame, answers = rows
    for number, name in enumerate(["b/2.parquet", "a.parquet", "_x/hidden.parquet", "b/1.parquet", "c.txt"]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        frame[number * 100 : (number + 1) * 100].to_parquet(tmp_path / "in" / name, row_group_size=30)
    score_json(capsys, tmp_path / "in", tmp_path / "all.parquet")
    table = pa.parquet.read_table(tmp_path / "all.parquet")
    positions = [*range(100, 200), *range(300, 400), *range(0, 100)]
    assert table["id"].to_pylist() == frame["id"].iloc[positions].tolist()
    same_answers(table, [answers[position] for position in positions])
    score_json(capsys, tmp_path / "in" / "b" / "*.parquet", tmp_path / "some.parquet")
    assert pa.parquet.read_table(tmp_path / "some.parquet").equals(table.slice(100))


def test_pieces_follow_from_the_file_alone(tmp_path, monkeypatch):
    for name, most in {"ENOUGH_ROWS": 100, "CHUNK_ROWS": 256, "BATCH_ROWS": 64}.items():
        monkeypatch.setattr(f"modeler.score.source.{name}", most)
    groups = [("a", 0, 30, 30), ("a", 1, 60, 60), ("b", 0, 50, 50), ("b", 1, 600, 600)]
    source = ParquetSource(find_place("x"), {}, groups)
    chunks = [(first, [slice[1:] for slice in slices]) for first, slices in source.list_chunks()]
    assert chunks == [
        (0, [("a", 0, 0, 30), ("a", 1, 0, 60)]),
        (90, [("b", 0, 0, 50)]),
        (140, [("b", 1, 0, 256)]),
        (396, [("b", 1, 256, 256)]),
        (652, [("b", 1, 512, 88)]),
    ]


def test_worker_reads_just_its_slices_and_names_enough_faults(predictor, tmp_path):
    frame = make_frame(1000)
    frame["code"] = frame["code"].astype(object).where(frame.index % 100 != 50, None)
    frame.to_parquet(path := tmp_path / "rows.parquet", row_group_size=600)
    slices = [Slice(str(path), str(path), 0, 300, 200), Slice(str(path), str(path), 1, 128, 272)]
    table = pa.Table.from_batches(read_slices(slices, ["id"], [], 128, {}))
    assert table["id"].to_pylist() == frame["id"].iloc[[*range(300, 500), *range(728, 1000)]].tolist()
    scorer = make_scorer(predictor, pa.parquet.read_schema(path), [], "refuse", batch_rows=128)
    faults = scorer.work(0, 300, slices[:1], False).faults
    assert faults["row"].to_pylist() == [350, 450]


def test_row_groups_do_not_tell_how_the_rows_arrived(tmp_path, monkeypatch):
    monkeypatch.setattr("modeler.score.parquet.GROUP_ROWS", 100)
    table = pa.Table.from_pandas(make_frame(730), preserve_index=False)
    for name, size in {"one": 730, "other": 77}.items():
        writer = GroupWriter(tmp_path / name, table.schema)
        for start in range(0, 730, size):
            writer.write(table.slice(start, size))
        writer.close()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    metadata = pa.parquet.read_metadata(tmp_path / "one")
    assert [metadata.row_group(number).num_rows for number in range(8)] == [100] * 7 + [30]


def test_folder_holds_nothing_of_a_worker_that_was_killed(tmp_path):
    schema = pa.schema([("x", pa.int64())])
    with Draft(find_place(f"{tmp_path}/out/"), "folder", schema, "made:1") as draft:
        folder = Path(draft.begin())
        (folder / ".part-00000.parquet.123").write_text("half")
        draft.add(0, [pa.table({"x": [1]}, schema)])
        draft.commit(1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARK, "part-00000.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("keep", [None, "all", "colour,id", "day"])
def test_columns_are_kept_as_told(keep, rows, tmp_path, capsys):
    path, frame, _ = rows
    score_json(capsys, path, tmp_path / "out.parquet", *(["--keep", keep] if keep else []))
    table = pa.parquet.read_table(tmp_path / "out.parquet")
    names = {None: ["id", "y"], "all": list(frame)}.get(keep) or keep.split(",")
    assert table.column_names == [*names, "label", "probability:no", "probability:yes", "warnings"]
    assert table.select(names).equals(pa.parquet.read_table(path).select(names))


@pytest.mark.parametrize(
    ("words", "sentence", "status"),
    [
        (["{rows}", "{tmp}/out.xlsx"], "ends in .xlsx; an output ends in .csv, .parquet, or / for a folder", 2),
        (["{rows}", "{tmp}/none/out.csv"], "there is no folder {tmp}/none for the output; make it first", 1),
        (["{rows}", "{tmp}"], "ends in", 2),
        (["{tmp}/none.csv", "{tmp}/out.csv"], "none.csv does not exist; give the path of a .csv or .parquet file", 1),
        (["{tmp}/*.parquet", "{tmp}/out.csv"], "no .parquet file matches {tmp}/*.parquet", 1),
        (["{tmp}", "{tmp}/../out.csv"], "holds no .parquet file", 1),
        (["{rows}", "{tmp}/out.csv", "--keep", "idd"], "--keep 'idd' is no column (did you mean 'id'?)", 2),
        (["{rows}", "{tmp}/out.csv", "--cluster", "local:none"], "local:N takes a number of workers", 2),
        (["ftp://x/a.csv", "{tmp}/out.csv"], "ftp:// cannot be reached", 2),
        (["{rows}", "{rows}", "--overwrite"], "is the input", 2),
        (["{rows.parent}/*.parquet", "{rows.parent}/out.parquet"], "is the input, or belongs to it", 2),
        (["{rows}", "{tmp}/out.csv", "--faults", "drop"], "invalid choice: 'drop'", 2),
    ],
)
def test_wrong_usage_is_one_sentence(words, sentence, status, rows, tmp_path, capsys):
    told = [word.format(rows=rows[0], tmp=tmp_path) for word in words]
    given, printed, errors = run(capsys, *told)
    said = errors.partition("pipeline.py: ")[2]
    assert given == status and not printed and sentence.format(tmp=tmp_path) in said
    assert said.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_column_with_the_name_of_an_answer_is_asked_about(rows, tmp_path, capsys):
    rows[1].assign(label="x").to_parquet(tmp_path / "rows.parquet")
    assert "the input has a column 'label', as the answers have" in refuse(
        capsys, tmp_path / "out.csv", tmp_path / "rows.parquet", status=2
    )
    score_json(capsys, tmp_path / "rows.parquet", tmp_path / "out.csv", "--keep", "id")


def test_list_cannot_be_kept_in_csv(rows, tmp_path, capsys):
    table = pa.parquet.read_table(rows[0]).append_column("many", pa.array([[1, 2]] * 500))
    pa.parquet.write_table(table, tmp_path / "rows.parquet")
    assert "a .csv file cannot hold a column that is kept" in refuse(
        capsys, tmp_path / "out.csv", tmp_path / "rows.parquet", status=2
    )
    score_json(capsys, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert pa.parquet.read_table(tmp_path / "out.parquet")["many"][0].as_py() == [1, 2]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out/"])
def test_output_that_exists_is_replaced_only_when_told(name, rows, tmp_path, capsys):
    output = f"{tmp_path}/{name}"
    score_json(capsys, rows[0], output, "--faults", "skip")
    before = read_bytes(tmp_path)
    status, _, said = run(capsys, rows[0], output, "--keep", "all")
    assert status == 1 and f"{output} is there already; replace it with --overwrite" in said
    assert read_bytes(tmp_path) == before
    score_json(capsys, rows[0], output, "--keep", "all", "--overwrite")
    after = read_bytes(tmp_path)
    assert after.keys() == {path for path in before if "faults" not in path.name}  # nothing is left of the former rule
    assert all(after[path] != before[path] for path in after if path.name != MARK)


def test_folder_of_something_else_is_never_replaced(rows, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    status, _, said = run(capsys, rows[0], f"{tmp_path}/out/", "--overwrite")
    assert status == 1 and "out/ holds thesis.txt, which is no part of answers" in said
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_folder_without_its_mark_is_what_a_killed_run_left(rows, tmp_path, capsys):
    score_json(capsys, rows[0], f"{tmp_path}/out/")
    assert json.loads((tmp_path / "out" / MARK).read_text())["parts"] == ["part-00000.parquet"]
    (tmp_path / "out" / MARK).unlink()
    status, _, said = run(capsys, rows[0], f"{tmp_path}/out/")
    assert status == 1 and f"is there already, without {MARK}: a run was killed there, or still goes on" in said


@pytest.mark.parametrize("cut", ["parquet", "csv row", "csv quote", "page"])
def test_file_that_ends_in_the_middle_is_one_sentence(cut, rows, tmp_path, capsys):
    frame = rows[1].assign(id=lambda frame: frame["id"] + ' "x"')
    if cut in ("parquet", "page"):
        path = tmp_path / "rows.parquet"
        frame.to_parquet(path, row_group_size=100)
        content = bytearray(path.read_bytes())
        if cut == "page":
            start = pa.parquet.read_metadata(path).row_group(4).column(1).data_page_offset
            content[start : start + 40] = b"\xff" * 40
        path.write_bytes(content if cut == "page" else content[: len(content) // 2])
    else:
        path = write_csv(frame, tmp_path / "rows.csv")
        text = path.read_text()
        path.write_text(text[: text.index("n000400") + 8 if cut == "csv quote" else text.index("n000400") + 30])
    said = refuse(capsys, tmp_path / "out.parquet", path)
    expected = {"parquet": "cannot be read as Parquet", "page": "cannot be read in row group 4"}
    assert expected.get(cut, "cut off") in said and said.count("\n") == 1


def test_file_without_rows_gives_an_output_without_rows(rows, tmp_path, capsys):
    empty = rows[1][:0]
    pa.parquet.write_table(pa.parquet.read_table(rows[0])[:0], tmp_path / "rows.parquet")
    write_csv(empty, tmp_path / "rows.csv")
    for path in (tmp_path / "rows.parquet", tmp_path / "rows.csv"):
        for name in ("out.csv", "out.parquet", "out/"):
            assert score_json(capsys, path, f"{tmp_path}/{name}", "--overwrite")["rows"] == 0
        assert len(pa.parquet.read_table(tmp_path / "out")) == len(pa.parquet.read_table(tmp_path / "out.parquet")) == 0


def test_draft_of_a_killed_process_is_cleared(rows, tmp_path, capsys):
    import socket

    dead, alive = (
        tmp_path / f".out.csv.{socket.gethostname()}-{number}-x.draft" for number in (999_999_999, os.getpid())
    )
    dead.mkdir()
    alive.mkdir()
    score_json(capsys, rows[0], tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "out.csv"]


@needs_linux("to mount a folder that cannot be written")
def test_folder_that_cannot_be_written_is_one_sentence(rows, store, tmp_path):
    command = [
        *read_only(tmp_path),
        sys.executable,
        str(ROOT / "pipeline.py"),
        "score",
        str(rows[0]),
        str(tmp_path / "out.csv"),
        "--model",
        "made",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Read-only file system" in done.stderr and "Traceback" not in done.stderr


def read_bytes(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}
