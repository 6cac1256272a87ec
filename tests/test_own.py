"""Columns of a person's own: traced, refused, stored, converted and served."""

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from cells import ask, make_mixed, run_cells, write_table
from conftest import read_examples, read_page
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import ensemble, linear_model
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeler import ModelerError
from modeler.data import load_table, raw_records, split_rows
from modeler.model.answers import SAME_ANSWER, decode_answers, describe_differences
from modeler.model.contract import read_contract, write_json
from modeler.model.graph import Graph, import_runtime
from modeler.model.stored import find_champion
from modeler.service.predictor import Predictor
from modeler.train import average_pipelines, convert_pipeline, trace_columns
from modeler.train.estimator import answer_with_estimator, load_estimator

CONTRACT = {
    "target": {"name": "default", "classes": ["no", "yes"]},
    "features": [
        {"name": "debt", "used": True}, {"name": "income", "used": True}, {"name": "owner", "used": True},
        {"name": "town", "used": True}, {"name": "note", "used": False, "reason": "free text: 9 words in the middle one"},
    ],
}  # fmt: skip


def make_input(rows: int = 300) -> pd.DataFrame:
    """As `encode_table` makes it: numbers with zeros, negatives and gaps, a boolean, a category."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"debt": rng.normal(100, 200, rows), "income": rng.integers(0, 9, rows)})
    X = X.assign(owner=rng.random(rows) > 0.5).astype("float32")
    X = X.where(rng.random(X.shape) > 0.1)
    return X.assign(town=pd.Series(rng.choice(list("xyz"), rows), dtype=object))


def trace(X=None, **own_columns):
    """The step that adds these columns, and the sentences about them."""
    ((_, step),), notes = trace_columns(own_columns, make_input() if X is None else X, CONTRACT)
    return step, notes


OPERATIONS = {
    "ratio": lambda c: c["debt"] / c["income"],
    "difference": lambda c: 2 * c["debt"] - c["income"] + 1,
    "log": lambda c: np.log(c["debt"]),
    "log1p": lambda c: np.log1p(c["debt"] * c["income"]),
    "exp": lambda c: np.exp(-c["debt"] / 100),
    "root": lambda c: np.sqrt(c["debt"]),
    "cube": lambda c: c["debt"] ** 3,
    "power": lambda c: abs(c["debt"]) ** c["income"],
    "condition": lambda c: np.where((c["debt"] > 0) & ~(c["income"] == 0), c["debt"] / c["income"], 0),
    "flag": lambda c: np.where(c["debt"] > 50, 1, 0),
    "boolean": lambda c: (c["debt"] > 50) | (c["owner"] == 1),
    "counted": lambda c: (c["debt"] > 50) * 1.0 + (c["income"] >= 4) * 1.0,
    "missing": lambda c: np.isnan(c["debt"]),
    "greater": lambda c: np.maximum(c["debt"], c["income"]),
    "smaller": lambda c: np.minimum(c["debt"], 0),
    "clipped": lambda c: np.clip(c["debt"], 0, 100),
    "rounded": lambda c: np.round(c["debt"] / 10),
    "floored": lambda c: np.floor(c["debt"]) + np.ceil(c["income"] / 2),
    "divided": lambda c: c["debt"] // c["income"],
    "rest": lambda c: c["debt"] % c["income"],
    "sign": lambda c: np.sign(c["debt"]),
    "wave": lambda c: np.sin(2 * np.pi * c["income"] / 12),
    "wave ahead": lambda c: np.cos(2 * np.pi * c["income"] / 12),
    "sum": lambda c: sum([c["debt"], c["income"], c["owner"]]),
    "standard": lambda c: c["debt"].__array_namespace__().log10(c["income"]),
}  # fmt: skip

EXTREMES = [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 6.0, 1e-45, 3.4e38, -3.4e38, 1e10, float("nan")]
NUMBERS = st.one_of(st.sampled_from(EXTREMES), st.floats(width=32, allow_infinity=False))


@pytest.mark.medium
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_numbers_give_the_same_traced_as_called_and_alone_as_among_others(name):
    step, _ = trace(**{name: OPERATIONS[name]})

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from([0.0, 1.0, float("nan")])), min_size=1, max_size=40))
    def compare(rows):
        numbers = np.array(rows, dtype=np.float32)
        traced = step.compute(numbers)
        columns = dict(zip(["debt", "income", "owner"], numbers.T.astype(np.float64)))
        with np.errstate(all="ignore"):
            called = np.asarray(OPERATIONS[name](columns)).astype(np.float32)
        called[np.isinf(called)] = np.nan
        assert traced[:, 0] == pytest.approx(called, rel=1e-6, abs=1e-11, nan_ok=True)
        alone = np.concatenate([step.compute(numbers[[place]]) for place in range(len(rows))])
        assert np.array_equal(alone, traced, equal_nan=True)

    compare()


def test_what_has_no_value_is_null_without_a_warning_and_told(recwarn):
    X = make_input().assign(income=np.float32(1), debt=np.arange(300, dtype=np.float32) - 10)
    functions = {"inverse": lambda c: 1 / c["debt"], "log": lambda c: np.log(c["debt"]), "huge": lambda c: 10.0 ** c["debt"]}
    step, notes = trace(X, **functions)
    assert notes == [
        "own column 'inverse': -1 to 1, null in 1 of 300 training rows, 1 of them for inf and the like, first in row 10",
        "own column 'log': 0 to 5.666, null in 11 of 300 training rows, 1 of them for -inf and the like, first in row 10",
        "own column 'huge': 1e-10 to 1e+38, null in 251 of 300 training rows, 251 of them for 1e+39 and the like, "
        "first in row 49",
    ]
    widened = step.transform(X)
    assert list(widened) == ["debt", "income", "owner", "inverse", "log", "huge", "town"]
    assert widened.dtypes.iloc[:-1].eq("float32").all() and widened["town"].equals(X["town"])
    assert np.isinf(widened.drop(columns="town").to_numpy()).sum() == 0
    assert not recwarn.list


def test_constant_column_is_told():
    _, notes = trace(one=lambda c: c["debt"] * 0 + 1)
    constant = "it is constant there, so the model learns nothing from it"
    assert notes == [f"own column 'one': 1 to 1, null in 32 of 300 training rows; {constant}"]


def test_no_columns_of_ones_own_need_no_step():
    assert trace_columns({}, make_input(), CONTRACT) == ([], ["no columns of your own"])


ARRAY = "it must give an array of one number a row"
KNOWN = "the columns to compute with are debt, income, owner"


@pytest.mark.parametrize(
    ("own_columns", "sentence"),
    [
        (["debt"], "own_columns must be a dict of name to function, got: list"),
        ({1: abs}, "a column of your own must be named by a text, got: 1"),
        ({" ": abs}, "a column of your own must be named by a text, got: ' '"),
        ({"debt": abs}, "own column 'debt' has the name of a column of the data; give it another one"),
        ({"note": abs}, "own column 'note' has the name of a column of the data; give it another one"),
        ({"default": abs}, "own column 'default' has the name of the target; give it another one"),
        ({"a": 3}, "own column 'a' must be a function, such as lambda c: c[…] / c[…], got: int"),
    ],
)
def test_own_columns_that_are_no_dict_of_new_names_to_functions_are_refused(own_columns, sentence):
    with pytest.raises(ModelerError) as told:
        trace_columns(own_columns, make_input(), CONTRACT)
    assert str(told.value) == sentence


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda c: c["default"], "uses the target 'default', which nobody knows when a prediction is made; leave it out"),
        (lambda c: c["depts"], f"uses 'depts', which is not a column (did you mean 'debt'?); {KNOWN}"),
        (lambda c: c[0], f"uses 0, which is not a column; {KNOWN}"),
        (lambda c: c["town"] == "x",
         "uses 'town', which holds categories; only columns of numbers and booleans can be computed with"),
        (lambda c: c["note"],
         "uses 'note', which the model does not use: free text: 9 words in the middle one; "
         "only used columns can be computed with"),
        (lambda c: 1.5, f"gives one float for 300 rows; {ARRAY}"),
        (lambda c: None, f"gives one NoneType for 300 rows; {ARRAY}"),
        (lambda c: np.max(c["debt"]), f"gives one float64 for 300 rows; {ARRAY}"),
        (lambda c: np.diff(c["debt"]), f"gives an array of shape (299,) for 300 rows; {ARRAY}"),
        (lambda c: np.stack([c["debt"]]), f"gives an array of shape (1, 300) for 300 rows; {ARRAY}"),
        (lambda c: [[1], [1, 2]], f"gives an array of shape (2,) for 300 rows; {ARRAY}"),
        (lambda c: ["text"] * 300, "gives values of type object; it must give numbers or booleans"),
        (lambda c: np.arange(300), "is not made of the columns of `c`, and a request has nothing else"),
        (lambda c: 1 // 0, "fails with ZeroDivisionError: integer division or modulo by zero"),
        (lambda: 1, "fails with TypeError: <lambda>() takes 0 positional arguments but 1 was given"),
        (lambda c: np.log(-abs(c["debt"])), "is null in all 300 training rows; mend it, or leave it out"),
    ],
)  # fmt: skip
def test_function_of_what_is_no_column_or_to_what_is_none_is_refused(function, sentence):
    with pytest.raises(ModelerError) as told:
        trace(a=function)
    assert str(told.value) == f"own column 'a' {sentence}"


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda c: np.nan_to_num(c["debt"]), "np.nan_to_num"),
        (lambda c: np.arctan(c["debt"]), "np.arctan of float64"),
        (lambda c: np.multiply(c["debt"], 2j), "np.multiply of float64 and complex"),
        (lambda c: c["debt"] == "x", "np.equal of float64 and str"),
        (lambda c: (c["debt"] > 0) + (c["income"] > 0), "np.add of bool and bool"),
        (lambda c: c["debt"] + np.arange(300), "an array that is no column of `c`"),
        (lambda c: np.minimum.reduce([c["debt"]]), "a function that takes the values out, as np.asarray does"),
        (lambda c: 1 if c["debt"] > 0 else 0, "if, and, or, not, min() or max()"),
        (lambda c: 0 < c["debt"] < 9, "if, and, or, not, min() or max()"),
        (lambda c: max(c["debt"], c["income"]), "if, and, or, not, min() or max()"),
        (lambda c: math.log(c["debt"]), "float(), int() or a function of the math module"),
        (lambda c: c["debt"].fillna(0), ".fillna"),
        (lambda c: c["debt"][0], "an index in square brackets"),
        (lambda c: [x for x in c["debt"]], "a loop or len()"),
        (lambda c: round(c["debt"]), "round()"),
    ],
)
def test_what_cannot_be_traced_is_refused_by_the_name_of_the_operation(function, operation):
    with pytest.raises(ModelerError) as told:
        trace(a=function)
    assert str(told.value) == (
        f"own column 'a' cannot be traced because of {operation}; write it with operators and NumPy's functions of whole "
        "arrays, such as np.log, np.where or np.maximum"
    )


def test_columns_made_of_dates_are_columns_although_the_contract_does_not_name_them():
    X = make_input().assign(**{"sold.year": np.float32(2020) + np.arange(300, dtype=np.float32) % 5})
    trace(X, age=lambda c: 2026 - c["sold.year"])
    with pytest.raises(ModelerError, match="uses 'sold', which is not a column .did you mean 'sold.year'"):
        trace(X, age=lambda c: 2026 - c["sold"])
    with pytest.raises(ModelerError, match="own column 'sold.year' has the name of a column of the data"):
        trace(X, **{"sold.year": lambda c: c["debt"]})


def test_random_column_is_refused_with_row_and_values():
    draws = iter([1.0, 2.0])
    with pytest.raises(ModelerError) as told:
        trace(make_input().fillna({"debt": 5}), a=lambda c: c["debt"] * 0 + next(draws))
    assert str(told.value) == (
        "own column 'a' gives 2 in row 0 when called, and 1 when traced; a row must always give the same value, so use the "
        "columns of `c` and nothing random"
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda c: c["debt"] / np.max(c["debt"]),
        lambda c: c["debt"] - np.mean(c["debt"]),
        lambda c: np.where(c["debt"] == np.max(c["debt"]), 0, c["debt"]),
        lambda c: np.sort(c["debt"]),
        lambda c: np.roll(c["debt"], 1),
        lambda c: np.flip(c["debt"]),
    ],
)
def test_column_that_needs_other_rows_is_refused_with_row_and_values(function):
    X = make_input().assign(debt=np.arange(1, 301, dtype=np.float32)[::-1])
    with pytest.raises(
        ModelerError,
        match=r"own column 'a' gives \S+ in row \d+ among 100 rows, and \S+ if it is alone, as in a request; write a sum, ",
    ):
        trace(X, a=function)


# As a part of a Pipeline and its graph


OWN = {"ratio": lambda c: c["debt"] / c["income"], "log": lambda c: np.log(c["debt"]), "high": lambda c: c["debt"] > 90}


ENCODE = OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def build_pipeline(X, model, numbers="filled", own_columns=OWN) -> Pipeline:
    own, _ = trace_columns(own_columns, X, CONTRACT)
    part = SimpleImputer() if numbers == "filled" else make_pipeline(SimpleImputer(), StandardScaler())
    names = [*X.select_dtypes("float32"), *own_columns]
    columns = ColumnTransformer([("numbers", part, names), ("categories", ENCODE, ["town"])])
    return Pipeline([*own, ("columns", columns), ("model", model)])


def make_target(X, kind: str) -> np.ndarray:
    y = np.log1p(X["debt"].fillna(0).clip(0)) + X["income"].fillna(4) + (X["town"] == "x")
    return np.where(y > y.median(), "yes", "no") if kind == "classes" else np.exp(y / 4).to_numpy()


def answer_graph(graph: bytes, X) -> np.ndarray:
    inputs = {"numbers": X[["debt", "income", "owner"]].to_numpy(), "categories": X[["town"]].to_numpy(object)}
    return import_runtime().InferenceSession(graph).run(None, inputs)[-1]


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["classes", "values", "logarithms"])
@pytest.mark.parametrize("averaged", [False, True])
def test_graph_takes_the_datas_columns_and_answers_like_the_estimator(tmp_path, kind, averaged):
    X = make_input()
    forest, linear = ensemble.RandomForestRegressor(20, random_state=0), linear_model.Ridge()
    if kind == "classes":
        forest, linear = ensemble.RandomForestClassifier(20, random_state=0), linear_model.LogisticRegression(max_iter=500)
    if kind == "logarithms":
        forest, linear = (TransformedTargetRegressor(one, func=np.log, inverse_func=np.exp) for one in (forest, linear))
    pipeline = build_pipeline(X, forest)
    if averaged:
        pipeline = average_pipelines({"forest": pipeline, "linear": build_pipeline(X, linear, "scaled")})
    pipeline = clone(pipeline).fit(X, make_target(X, kind))
    answer = "predict_proba" if kind == "classes" else "predict"
    expected, graph = getattr(pipeline, answer)(X), convert_pipeline(pipeline, X)
    answered = answer_graph(graph, X).reshape(expected.shape)
    assert answered == pytest.approx(expected, rel=SAME_ANSWER, abs=SAME_ANSWER)
    assert sorted(entry.domain for entry in onnx.load_from_string(graph).opset_import) == ["", "ai.onnx.ml"]
    alone = np.concatenate([answer_graph(graph, X[place : place + 1]) for place in range(40)])
    assert alone.reshape(expected[:40].shape) == pytest.approx(expected[:40], rel=SAME_ANSWER, abs=SAME_ANSWER)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    assert np.array_equal(getattr(load_estimator(tmp_path / "model.skops"), answer)(X), expected)


def test_shown_pipeline_names_the_columns_and_not_the_graph():
    pipeline = build_pipeline(make_input(), linear_model.LogisticRegression())
    assert "OwnColumns(columns=['ratio', 'log', 'high'])" in repr(pipeline)
    assert "\\x" not in repr(pipeline) + pipeline._repr_html_()


def hash_graphs() -> list[str]:
    """The SHA-256 of a graph that is made here; tests/test_boosters.py holds that other processes make the same."""
    X = make_input()
    model = ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0)
    pipeline = build_pipeline(X, model).fit(X, make_target(X, "classes"))
    return [hashlib.sha256(convert_pipeline(pipeline, X)).hexdigest()]


# In the notebook and in the service


CELL = "own_columns = {}"
MIXED = 'own_columns = {"a": lambda c: c["size (cm)"] / c["size (CM)"], "b": lambda c: np.log(c["size (cm)"])}'


def write_cell(source: str, cell: str) -> str:
    return cell if source.startswith(CELL) else source


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["two", "numbers"])
def test_every_estimator_of_the_notebook_takes_own_columns(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    told, _ = write_table(make_mixed(kind))
    names = run_cells(told, "graph and estimator differ", lambda source: write_cell(source, MIXED))
    assert "own column 'a': " in (printed := capsys.readouterr().out) and "first in row" in printed
    assert names["contract"]["own_columns"] == ["a", "b"] and names["pipeline"]["own"].columns == ["a", "b"]
    assert names["numbers"] == ["size (cm)", "size (CM)", "odd", "class", "a", "b"]
    X, frame = names["X_test"], names["table"].frame[names["heldout"]]
    assert len(names["candidates"]) == 10
    for candidate in names["candidates"].values():
        candidate.fit(names["X_train"], names["y_train"])
        graph = Graph(convert_pipeline(candidate, X), names["contract"])
        expected = decode_answers(candidate.predict_proba(X) if kind == "two" else candidate.predict(X), graph.contract)
        answers = graph.answer(raw_records(frame))
        assert list(describe_differences(answers, expected, graph.contract, SAME_ANSWER)) == []


def test_contract_of_an_earlier_run_loses_its_own_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, _ = write_table(make_mixed("two"))
    contract = read_contract(Path("contract.json"))
    write_json(Path("contract.json"), contract | {"own_columns": ["a"]})
    assert run_cells(told, "trace_columns(own_columns")["contract"] == contract


@pytest.mark.medium
def test_own_column_of_readme_is_proven_and_served(project, typed):
    (cell,) = [example for example in read_examples("README.md", "python") if example.startswith("own_columns")]
    project.edit_cell("train.ipynb", CELL, lambda _: cell)
    done = typed("-p", "estimator=random_forest", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    run, contract = Path(result["run"]), read_contract(Path(result["run"]) / "contract.json")
    assert contract["own_columns"] == ["area per radius"]
    frame = load_table("breast_cancer").frame
    rows = frame[split_rows(frame, contract["split"]["share"])]
    estimator, records = load_estimator(run / "model.skops"), raw_records(rows.drop(columns="diagnosis"))
    assert estimator["own"].columns == ["area per radius"]
    predictor = Predictor(find_champion("breast_cancer"), 10_000)
    status, answer = ask(predictor, records)
    refused, fault = ask(predictor, records[0] | {"area per radius": 42.0})
    assert status == 200 and answer["model"] == result["model"]
    expected = answer_with_estimator(estimator, rows, contract)
    assert list(describe_differences(answer["predictions"], expected, contract, SAME_ANSWER)) == []
    assert refused == 400 and fault["detail"][0]["field"] == "area per radius"


def test_examples_of_the_docs_are_traced():
    section = read_page("docs/notebooks.md").partition("## Columns of your own\n")[2].partition("\n## ")[0]
    examples = re.findall(r"`([^`]*c\[[^`]*)`", section)
    assert len(examples) >= 6
    X = pd.DataFrame({name: np.arange(20, dtype=np.float32) for name in re.findall(r'c\["(.*?)"\]', section)})
    for example in examples:
        trace(X, example=eval(f"lambda c: {example}", {"np": np}))
