"""Columns in counts: what reference.json holds, what no row can be read out of, and distances without chance."""

import numpy as np
import pandas as pd
import pytest

from modeler.data.drift import (
    BINS,
    FEWEST,
    count_values,
    describe_column,
    list_counts,
    measure_p_value,
    measure_psi,
    see_column,
)
from modeler.data.rows import split_rows
from modeler.data.tables import load_table
from modeler.model.contract import read_json, write_json

RNG = np.random.default_rng(0)
COLUMNS = {
    "normal": RNG.normal(size=1000), "heavy": RNG.lognormal(0, 3, 1000), "thirds": RNG.integers(0, 4, 500) / 3,
    "constant": np.zeros(50), "counts": RNG.poisson(0.2, 1000), "days": 20_000 + RNG.uniform(0, 300, 400), "three": [1, 2, 3],
    "empty": [], "mostly zero": np.r_[np.zeros(900), RNG.normal(size=100)], "huge": 1e38 * RNG.uniform(size=100),
    "tiny": 1e-30 * RNG.normal(size=100), "gaps": np.where(np.arange(300) % 3, RNG.normal(size=300), np.nan),
}  # fmt: skip


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_bins_hold_several_rows_and_count_the_same_values_alike(values):
    values = np.array(values, dtype=np.float32)
    column = {"type": "number", **describe_column(values, "number")}
    assert len(column["counts"]) == len(column["edges"]) + 1 <= BINS
    assert min(column["counts"]) >= FEWEST or len(column["counts"]) == 1
    assert count_values(values, column).tolist() == list_counts(column).tolist()
    assert sum(column["counts"]) + column["missing"] == len(values)


def test_quantile_bins_are_even_and_their_edges_say_little_of_any_row():
    values = np.sort(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    column = describe_column(values, "number")
    assert len(column["counts"]) == BINS and max(column["counts"]) <= 60
    assert all(len(f"{abs(edge):g}") <= 5 for edge in column["edges"]) and not np.isin(column["edges"], values).any()


def test_a_value_that_many_rows_have_has_a_bin_of_its_own():
    column = {"type": "number", **describe_column(np.repeat(np.float32([0, 1 / 3, 0.1, 7]), 50), "number")}
    assert column["counts"] == [50] * 4
    assert count_values(np.float32([0.1, 1 / 3, 8, -1]), column).tolist() == [1, 1, 1, 1, 0]


def test_categories_are_the_commonest_that_several_rows_have_and_the_rest():
    names = [f"{number:02}" for number in range(60) for _ in range(number)] + ["(missing)"] * 7
    column = {"type": "category", **describe_column(np.array(names, dtype=object), "category")}
    assert column["values"] == [f"{number:02}" for number in range(59, 9, -1)]
    assert column["counts"] == [*range(59, 9, -1), sum(range(10))] and column["missing"] == 7
    rare = describe_column(np.array(["a"] * 5 + ["b"] * 4, dtype=object), "category")
    assert (rare["values"], rare["counts"]) == (["a"], [5, 4])
    given = count_values(np.array(["59", "new", "(missing)"], dtype=object), column)
    assert (given[0], given[-2], given[-1], given.sum()) == (1, 1, 1, 3)


def test_booleans_and_dates_are_seen_as_the_model_sees_them():
    frame = pd.DataFrame({"flag": [True, None, False], "day": pd.to_datetime(["1970-01-02", None, "1970-01-11"])})
    flags = see_column(frame, {"name": "flag", "type": "boolean", "used": True})
    column = {"type": "boolean", **describe_column(flags, "boolean")}
    assert column == {"type": "boolean", "missing": 1, "values": [False, True], "counts": [1, 1]}
    assert count_values(flags, column).tolist() == [1, 1, 1]
    day = {"name": "day", "type": "date", "used": True, "time": False, "format": "%Y-%m-%d"}
    texts = {"day": ["1970-01-02", None, "1970-01-11"]}
    for columns in (frame, texts):
        assert see_column(columns, day).tolist() == pytest.approx([1, np.nan, 10], nan_ok=True)


@pytest.mark.parametrize(("n", "m", "bins"), [(200, 400, 20), (1000, 400, 20), (200, 10**6, 50)])
def test_without_drift_the_index_is_about_0_and_p_uniform(n, m, bins):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(bins, 3))
    pairs = list(zip(rng.multinomial(n, shares, 300), rng.multinomial(m, shares, 300)))
    assert np.mean([measure_psi(*pair) for pair in pairs]) < 0.02
    assert 0.02 < np.mean([measure_p_value(*pair) < 0.05 for pair in pairs]) < 0.09


def test_index_and_p_of_a_shift_are_those_of_the_formula():
    given, expected = np.array([3000, 1000]), np.array([2000, 2000])
    assert measure_psi(given, expected) == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5) - 1 / 2000, abs=1e-3)
    assert measure_p_value(given, expected) < 1e-9
    assert measure_psi(given * 0, expected) == 0 and measure_p_value(given * 0, expected) == 1


def test_gate_writes_the_reference_from_raw_training_rows_whatever_a_notebook_wrote(forest, tmp_path):
    from modeler.gate.judge import judge_candidate

    (tmp_path / "run").symlink_to(forest)
    write_json(tmp_path / "run" / "reference.json", {"rows": 0})
    table = load_table("breast_cancer")
    judge_candidate(tmp_path / "run", table, {"holdout": 0.2, "split_by": ""}, {}, {})
    reference, contract = read_json(forest / "reference.json"), read_json(forest / "contract.json")
    heldout = split_rows(table.frame, 0.2)
    assert (reference["rows"], reference["held_out"]) == ((~heldout).sum(), heldout.sum())
    used = {feature["name"]: feature for feature in contract["features"] if feature["used"]}
    assert [column["name"] for column in reference["columns"]] == [*used]
    for column in reference["columns"]:
        values = see_column(table.frame[~heldout], used[column["name"]])
        assert count_values(values, column).tolist() == list_counts(column).tolist()
    assert [answer["name"] for answer in reference["answers"]] == ["benign", "malignant"]
    assert all(sum(answer["counts"]) == heldout.sum() for answer in reference["answers"])
