"""The contract: which columns are kept, and what is written down of each."""

import json

import numpy as np
import pandas as pd
import pytest

from modeler import ModelerError
from modeler.data.columns import describe_leak, measure_correlation, tell_task
from modeler.data.derive import check_table, derive_contract, warn_of_weak
from modeler.data.rows import split_rows
from modeler.data.tables import Table, load_table
from modeler.model.contract import class_key, read_contract, used_features, write_json

ARTICLE_DROPS = {
    "mean fractal dimension", "texture error", "smoothness error", "symmetry error", "fractal dimension error",
}  # fmt: skip


def make_table(target, **columns) -> Table:
    return Table("made", pd.DataFrame(columns | {"y": target}), "y")


def derive(table: Table, **settings) -> dict:
    settings = {"min_association": 0.1, "holdout": 0.2} | settings
    return derive_contract(table, table.frame, **settings)


@pytest.fixture(scope="module")
def mixed() -> Table:
    rng = np.random.default_rng(0)
    y = np.tile(["no", "yes", "no"], 100)
    signal = (y == "yes") + rng.normal(scale=0.3, size=300)
    return make_table(
        y,
        signal=signal,
        copy=signal,
        noise=rng.normal(size=300),
        constant=7,
        row=np.arange(300) + 1000,
        key=[f"k{i}" for i in range(300)],
        colour=np.where((y == "yes") & (np.arange(300) > 9), "red", "blue").astype(object),
        flag=pd.Series(y == "yes").astype(object).where(rng.random(300) > 0.1, None),
        gaps=pd.Series(signal).where(np.arange(300) % 33 == 0),
        day=pd.date_range("2024-01-01", periods=300),
        note=[f"row {i} says nothing that a model could read" for i in range(300)],
        code=[{"yes": 1, "no": 0}[label] for label in y],
    )


def test_breast_cancer_drops_the_columns_of_the_article_by_itself():
    table = load_table("breast_cancer")
    training = table.frame[~split_rows(table.frame, 0.2)]
    contract = derive_contract(table, training, min_association=0.1, holdout=0.2)
    dropped = {feature["name"] for feature in contract["features"] if not feature["used"]}
    assert dropped == ARTICLE_DROPS
    assert (contract["rows"], contract["task"], contract["name"]) == (569, "classification", "breast_cancer")
    assert contract["target"] == {
        "name": "diagnosis", "classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(("told", "dropped"), [("auto", ARTICLE_DROPS), ("0.1", ARTICLE_DROPS), (0, set())])
def test_article_rule_is_the_default_for_the_built_in_data(told, dropped):
    table = load_table("breast_cancer")
    features = derive(table, min_association=told)["features"]
    assert {feature["name"] for feature in features if not feature["used"]} == dropped


def test_own_table_keeps_by_default_what_the_article_rule_drops(tmp_path):
    load_table("breast_cancer").frame.to_csv(tmp_path / "breast_cancer.csv", index=False)
    features = derive(load_table(str(tmp_path / "breast_cancer.csv"), "diagnosis"), min_association="auto")["features"]
    used = {feature["name"] for feature in features if feature["used"]}
    assert {"mean fractal dimension", "fractal dimension error"} <= used  # ROC AUC 0.6 and 0.59, by a shallow tree


def test_weak_columns_are_told_in_one_sentence_with_the_way_back():
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b"], 500)
    table = make_table(y, x=(y == "a") + rng.normal(size=500), **{f"n{i}": rng.normal(size=500) for i in range(12)})
    for told, sentence in (("auto", "cannot be told from noise (association 0."), (0.3, "is below 0.3")):
        contract = derive(table, min_association=told)
        (warning,) = warn_of_weak(contract)
        weak = [feature["name"] for feature in contract["features"] if not feature["used"]]
        assert len(weak) > 6 and warning["columns"] == weak and warning["kind"] == "weak columns"
        assert all(sentence in feature["reason"] for feature in contract["features"] if not feature["used"])
        assert warning["message"].startswith(f"{len(weak)} columns are left out as weak: n")
        assert warning["message"].endswith("; -p min_association=0 keeps such columns")
    assert warn_of_weak(derive(table, min_association=0)) == []
    dropped = derive(make_table(y, x=np.arange(500.0), one=1), min_association="auto")
    assert warn_of_weak(dropped) == [], "a constant column is no weak one"


def test_columns_that_all_look_like_noise_are_all_kept():
    rng = np.random.default_rng(2)
    table = make_table(rng.choice(["a", "b"], 300), one=rng.normal(size=300), two=rng.normal(size=300))
    assert [feature["used"] for feature in derive(table, min_association="auto")["features"]] == [True, True]


@pytest.mark.parametrize(
    ("leave_out", "left"),
    [("", []), ("price", ["price"]), ("price, size", ["price", "size"]), ("weight, kg", ["weight, kg"]),
     ('"weight, kg",size', ["weight, kg", "size"])],
)  # fmt: skip
def test_columns_are_left_out_by_name(leave_out, left):
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=40) for name in ("price", "size", "weight, kg", "x")}
    features = derive(make_table(["a", "b"] * 20, **columns), min_association=0, leave_out=leave_out)["features"]
    reasons = {feature["name"]: feature["reason"] for feature in features if not feature["used"]}
    assert reasons == dict.fromkeys(left, "left out by -p leave_out")


def test_copy_of_a_column_left_out_is_judged_on_its_own():
    x = np.random.default_rng(0).normal(size=40)
    features = derive(make_table(["a", "b"] * 20, x=x, again=x), min_association=0, leave_out="x")["features"]
    assert [feature["reason"] for feature in features] == ["left out by -p leave_out", None]


def test_correlation_of_two_classes_is_the_absolute_correlation():
    frame = load_table("breast_cancer").frame
    codes = (frame["diagnosis"] == "benign").astype(float)
    for name in ("mean radius", "smoothness error"):
        expected = abs(np.corrcoef(frame[name], codes)[0, 1])
        assert measure_correlation(frame[name], frame["diagnosis"], "classification") == pytest.approx(expected)


def test_correlation_is_0_without_and_1_with_a_perfect_relation():
    y = pd.Series(["a", "b", "c"] * 50)
    assert measure_correlation(y.map({"a": 1.0, "b": 5.0, "c": 2.0}), y, "classification") == pytest.approx(1)
    assert measure_correlation(y.map({"a": "x", "b": "z", "c": "w"}), y, "classification") == pytest.approx(1)
    assert measure_correlation(pd.Series(["x"] * 75 + ["z"] * 75), y, "classification") == pytest.approx(0, abs=1e-9)
    assert measure_correlation(pd.Series([1.0] * 150), y, "classification") == 0
    numbers = pd.Series(np.arange(150.0))
    assert measure_correlation(-2 * numbers, numbers, "regression") == pytest.approx(1)
    assert measure_correlation((numbers > 74).map(str), numbers, "regression") == pytest.approx(np.sqrt(0.75), abs=1e-3)


def test_every_column_that_cannot_be_used_is_dropped_with_its_reason(mixed):
    reasons = {feature["name"]: feature["reason"] for feature in derive(mixed)["features"]}
    assert reasons.pop("noise").endswith("is below 0.1") and reasons.pop("day").endswith("is below 0.1")
    assert reasons == {
        "signal": None,
        "copy": "duplicate of signal",
        "constant": "constant: always 7",
        "row": "identifier-like: 300 different values in 300 rows",
        "key": "identifier-like: 300 different values in 300 rows",
        "colour": None,
        "flag": None,
        "gaps": "nearly empty: 97% missing",
        "note": "free text: 9 words in the middle one",
        "code": "stands for the target 'y' in every row, so it would give the answer away",
    }


def test_features_say_type_gaps_range_and_a_real_example(mixed):
    features = {feature["name"]: feature for feature in derive(mixed)["features"]}
    assert features["signal"]["type"] == "number" and not features["signal"]["missing"]
    assert features["signal"]["min"] == mixed.frame["signal"].min()
    assert features["signal"]["example"] == mixed.frame["signal"].iloc[0]
    assert features["colour"] | {"association": 1} == {
        "name": "colour", "type": "category", "used": True, "association": 1, "reason": None, "missing": False,
        "categories": ["blue", "red"], "example": "blue",
    }  # fmt: skip
    assert features["flag"]["type"] == "boolean" and features["flag"]["missing"]
    assert [f["name"] for f in used_features(derive(mixed))] == ["signal", "flag", "colour"]
    assert all(feature["association"] == round(feature["association"], 3) for feature in features.values())
    assert not any("categories" in feature for feature in features.values() if not feature["used"])


def test_missing_is_read_from_all_rows_and_ranges_from_training_rows():
    table = make_table(["a", "b"] * 20, x=[1.0, 2.0] * 19 + [None, 99.0])
    (feature,) = derive_contract(table, table.frame.head(30), min_association=0, holdout=0.2)["features"]
    assert feature["missing"] and feature["max"] == 2.0


@pytest.mark.parametrize(
    ("name", "values", "dropped"),
    [
        ("n", range(50, 100), True),
        ("n", range(0, 5000, 100), False),
        ("customer_id", range(0, 5000, 100), True),
        ("n", [0, *range(49)], False),
        ("n", [f"t{i}" for i in range(50)], True),
        ("n", [f"t{i % 20}" for i in range(50)], False),
    ],
)
def test_identifiers_are_told_from_numbers_and_categories(name, values, dropped):
    table = make_table(["a"] * 25 + ["b"] * 25, **{name: list(values)})
    table.frame["x"] = [1.0] * 24 + [2.0] * 26
    reason = derive(table, min_association=0)["features"][0]["reason"]
    assert (reason is not None) is dropped, reason


def test_duplicate_of_a_dropped_column_is_judged_on_its_own():
    y = ["a", "b"] * 20
    table = make_table(y, one=[0.5] * 40, two=[0.5] * 40, x=[1.0, 2.0] * 19 + [1.0, 1.0])
    reasons = [feature["reason"] for feature in derive(table)["features"]]
    assert reasons == ["constant: always 0.5", "constant: always 0.5", None]


def test_split_by_column_is_no_feature():
    table = make_table(["a", "b"] * 20, patient=[1, 2] * 20, x=[0.1, 0.9] * 19 + [0.1, 0.1])
    reasons = {f["name"]: f["reason"] for f in derive(table, split_by="patient")["features"]}
    assert reasons["patient"].startswith("groups the rows") and reasons["x"] is None


@pytest.mark.parametrize(
    ("values", "told", "task", "reason"),
    [
        (["a", "b"], "auto", "classification", "its 2 different values are texts"),
        ([True, False], "auto", "classification", "its 2 different values are booleans"),
        ([0, 1, 2], "auto", "classification", "it has 3 different whole numbers, no more than 20"),
        ([0.0, 1.0], "auto", "classification", "it has 2 different whole numbers, no more than 20"),
        (list(range(21)), "auto", "regression", "it has 21 different numbers, more than 20"),
        ([0.5, 1.0], "auto", "regression", "its values are fractional numbers"),
        ([0, 1, 2], "regression", "regression", "-p task=regression says so"),
        ([0.5, 1.0], "classification", "classification", "-p task=classification says so"),
    ],
)
def test_task_follows_the_target_or_what_was_told(values, told, task, reason):
    assert tell_task(pd.Series(values), told) == (task, reason)


@pytest.mark.parametrize("values", [["a", "b"], [True, False]])
def test_regression_of_what_is_no_number_is_refused(values):
    with pytest.raises(ModelerError, match="target 'y' holds .*, so it cannot be a regression; leave out"):
        tell_task(pd.Series(values, name="y"), "regression")


@pytest.mark.parametrize(
    ("column", "target", "leak"),
    [
        (["a", "b"] * 9, ["a", "b"] * 9, "is the target 'y' once more"),
        ([7, 8, 9] * 9, ["a", "b", "c"] * 9, "stands for the target 'y' in every row"),
        ([True, False] * 9, [1, 0] * 9, "stands for the target 'y' in every row"),
        (np.arange(30.0) * 2.54 + 1, np.arange(30.0), "is the target 'y' in another unit"),
        (np.arange(30.0) ** 2, np.arange(30.0), None),
        ([7, 8, 8] * 9, ["a", "b", "c"] * 9, None),
        ([1, 0] * 8 + [1, 1], ["a", "b"] * 9, None),
        (["x", "z", None] * 6, ["a", "b", "b"] * 6, None),
        ([f"k{n}" for n in range(18)], [f"y{n}" for n in range(18)], None),
    ],
)
def test_column_that_tells_the_target_is_found(column, target, leak):
    assert describe_leak(pd.Series(column), pd.Series(target, name="y")) == leak


def test_categories_without_signal_have_no_correlation_however_many_they_are():
    rng = np.random.default_rng(0)
    for rows, levels in ((456, 176), (3000, 900), (40, 30)):
        column = pd.Series(rng.integers(levels, size=rows).astype(str))
        assert measure_correlation(column, pd.Series(rng.choice(["a", "b"], rows)), "classification") < 0.5
        assert measure_correlation(column, pd.Series(rng.normal(size=rows)), "regression") < 0.5
    target = pd.Series(rng.integers(40, size=3000).astype(str))
    noisy = target.where(rng.random(3000) < 0.9, "0")
    assert measure_correlation(noisy, target, "classification") > 0.85


def test_dropped_column_of_texts_gives_no_value_away(mixed):
    described = {feature["name"]: feature for feature in derive(mixed)["features"]}
    assert described["key"]["example"] is None and described["note"]["example"] is None
    assert described["row"]["example"] == 1000


def test_classes_keep_their_kind_and_the_rarer_is_looked_for():
    target = derive(make_table([1, 0, 0, 1, 0] * 10, x=[1.0, 0, 0, 1, 2] * 10))["target"]
    assert target == {"name": "y", "classes": [0, 1], "positive": 1, "threshold": 0.5}
    target = derive(make_table([True, False, True] * 10, x=[1.0, 0, 2] * 10), positive="true")["target"]
    assert target["classes"] == [False, True] and target["positive"] is True
    assert [class_key(label) for label in target["classes"]] == ["false", "true"]
    target = derive(make_table(list("abc") * 10, x=[1.0, 2, 4] * 9 + [1, 2, 2.0]))["target"]
    assert target == {"name": "y", "classes": ["a", "b", "c"]}
    assert derive(make_table(np.arange(40.0), x=np.arange(40.0) ** 2))["target"] == {"name": "y", "classes": None}


PLAIN = make_table(["a", "b"] * 9, price=[1, 2] * 9)


@pytest.mark.parametrize(
    ("table", "settings", "sentence"),
    [
        (make_table(["a"] * 9, x=range(9)), {}, "target 'y' is 'a' in every row"),
        (PLAIN, {"leave_out": "price"}, "no column of made can be used: 'price' left out by -p leave_out; bring other"),
        (make_table(["a", "b"] * 9, x=[1] * 18), {}, "no column of made can be used: 'x' constant: always 1; bring other"),
        (
            make_table(["a", "b"] * 90, x=[1, 1, 2] * 60),
            {},
            r"an association of 0.1 or more with 'y'; the highest is 0.0\d\d, of 'x'; lower min_association, or leave",
        ),
        (PLAIN, {"leave_out": "pirce"}, r"leave_out names 'pirce', which is not a column \(did you mean 'price'"),
        (PLAIN, {"leave_out": "price,y"}, "leave_out names the target 'y'; name columns"),
        (PLAIN, {"min_association": "1.5"}, "min_association must be auto, or a number from 0 to 1, got: 1.5"),
        (PLAIN, {"min_association": "nan"}, "min_association must be auto, or a number from 0 to 1, got: nan"),
        (PLAIN, {"min_association": "much"}, "min_association must be auto, or a number from 0 to 1, got: much"),
        (
            make_table(["a", "b"] * 9, x=[1, 2] * 9),
            {"positive": "c"},
            "positive 'c' is no class of 'y'; its classes are a and b",
        ),
    ],
)
def test_contract_that_cannot_be_made_says_why(table, settings, sentence):
    with pytest.raises(ModelerError, match=sentence):
        derive(table, **settings)


def test_contract_is_strict_json_without_paths(mixed):
    text = json.dumps(derive(mixed), allow_nan=False)
    assert json.loads(text) == derive(mixed)


def test_missing_or_broken_contract_says_to_run_eda_first(tmp_path):
    with pytest.raises(ModelerError, match="contract.json; run eda.ipynb first"):
        read_contract(tmp_path / "contract.json")
    (tmp_path / "contract.json").write_text("{")
    with pytest.raises(ModelerError, match="is not a contract .*; run eda.ipynb again"):
        read_contract(tmp_path / "contract.json")


def test_contract_of_other_data_is_refused(mixed):
    other = make_table(["a", "b"] * 9, x=[1, 2] * 9)
    check_table(mixed, derive(mixed))
    shorter = Table("made", mixed.frame.head(299), "y")
    with pytest.raises(ModelerError, match="with 300 rows, the data are made with 299 rows and the same columns"):
        check_table(shorter, derive(mixed))
    with pytest.raises(
        ModelerError,
        match="the contract is of made with 300 rows, the data are made with 18 rows and differ in 'code'",
    ):
        check_table(other, derive(mixed))


def test_write_json_leaves_the_old_file_when_the_new_one_cannot_be_written(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
