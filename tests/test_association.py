"""Association and noise: no signal is thrown away, whatever its shape, its skew and the class's rarity."""

import numpy as np
import pandas as pd
import pytest

from modeler.data.association import MOST_ROWS, draw_rows, measure_associations
from modeler.data.derive import derive_contract
from modeler.data.noise import find_noise
from modeler.data.tables import Table


def make_frame(y, rng, noise=15, **columns) -> pd.DataFrame:
    """A table with columns of noise: normal and lognormal numbers, and categories."""
    kinds = [lambda: rng.normal(size=len(y)), lambda: rng.lognormal(sigma=1.5, size=len(y))]
    kinds += [lambda: rng.choice(list("abcde"), len(y)).astype(object)]
    return pd.DataFrame(columns | {f"noise {i}": kinds[i % 3]() for i in range(noise)} | {"y": y})


def associate(y, x, task="classification") -> float:
    return measure_associations(pd.DataFrame({"x": x, "y": y}), "y", task)["x"]


def test_association_does_not_depend_on_how_rare_a_class_is():
    rng = np.random.default_rng(0)
    found = []
    for share in (0.5, 0.05, 0.003):
        y = np.arange(120_000) < share * 120_000
        found.append(associate(y, rng.normal(size=120_000) - 3 * y))
    assert found == pytest.approx([0.966] * 3, abs=0.02)  # 2 AUC - 1 of normals three deviations apart


def test_association_sees_a_u_shape_and_holds_for_skewed_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    assert associate(np.abs(x) > 0.67, x) > 0.9 and associate(x**2, x, "regression") > 0.95
    y = x + rng.normal(size=2000) > 0
    assert associate(y, np.exp(5 * x)) == pytest.approx(associate(y, x)) and associate(y, x) > 0.6
    assert associate(np.exp(5 * x), x, "regression") == pytest.approx(associate(x, x, "regression"))


def test_association_is_0_for_noise_and_1_for_what_gives_the_target():
    rng = np.random.default_rng(0)
    y = pd.Series(rng.choice(["a", "b", "c"], 3000))
    for x in (
        rng.normal(size=3000),
        rng.integers(500, size=3000).astype(str).astype(object),
        np.ones(3000),
        [None] * 3000,
    ):
        assert associate(y, x) < 0.06
        assert associate(rng.normal(size=3000), x, "regression") < 0.06
    assert associate(y, y.map({"a": 5.0, "b": 1.0, "c": 3.0})) == associate(y, y + "!") == 1
    assert associate(np.arange(3000.0), -(np.arange(3000.0) ** 3), "regression") > 0.99
    assert associate(y, pd.Series(np.ones(3000)).where(y == "a")) > 0.6, "a gap that goes with a class"


def test_measures_are_the_same_every_time():
    rng = np.random.default_rng(0)
    frame = make_frame(rng.choice(["a", "b"], 60_000), rng, noise=6)
    assert measure_associations(frame, "y", "classification") == measure_associations(
        frame.copy(), "y", "classification"
    )
    assert find_noise(frame, "y", "classification") == find_noise(frame.copy(), "y", "classification")


def test_draw_keeps_a_rare_class_whole():
    frame = pd.DataFrame({"y": ["rare"] * 300 + ["often"] * 100_000, "x": range(100_300)})
    drawn = draw_rows(frame, "y", "classification")
    assert drawn["y"].value_counts().to_dict() == {"often": MOST_ROWS // 2, "rare": 300}
    assert drawn.index.is_monotonic_increasing and len(draw_rows(frame, "x", "regression")) == MOST_ROWS


def make_signal(kind, n, rng) -> pd.DataFrame:
    a, b, wrong = rng.normal(size=n), rng.normal(size=n), rng.random(n) < 0.15
    text = rng.choice(list("uvwxyz"), n).astype(object)
    columns = {"a": a, "b": b}
    if kind == "xor":
        y = (a > 0) ^ (b > 0) ^ wrong
    elif kind == "xor off the middle":
        y = (a > 0.5) ^ (b > -0.5) ^ wrong
    elif kind == "xor with a category":
        y, columns = (a > 0) ^ np.isin(text, list("uvw")) ^ wrong, {"a": a, "b": text}
    elif kind == "product":
        y = 2 * a * b + rng.normal(size=n)
    elif kind == "difference":
        columns["b"] = a + 0.1 * b
        y = (b < 0) ^ wrong
    elif kind == "u shape":
        y, columns = (np.abs(a) > 0.67) ^ wrong, {"a": a}
    elif kind == "skewed":
        y, columns = a + 2 * rng.normal(size=n) > 0, {"a": np.exp(3 * a)}
    elif kind == "many categories":
        codes, means = rng.integers(80, size=n), rng.normal(size=80)
        y, columns = means[codes] + rng.normal(size=n) > 0, {"a": codes.astype(str).astype(object)}
    elif kind == "rare class":
        y = np.arange(n) < max(6, n // 100)
        columns = {"a": a + 2.5 * y}
    return make_frame(y, rng, **columns)


@pytest.mark.parametrize("n", [300, 1000, 5000])
@pytest.mark.parametrize(
    "kind",
    ["xor", "xor off the middle", "xor with a category", "product", "difference", "u shape", "skewed",
     "many categories", "rare class"],
)  # fmt: skip
def test_signal_among_noise_is_kept_and_most_noise_is_not(kind, n):
    frame = make_signal(kind, n, np.random.default_rng(0))
    noise = find_noise(frame, "y", "regression" if kind == "product" else "classification")
    assert not {"a", "b"} & set(noise)
    assert len(noise) >= 8, "more than half of the 15 columns of noise are known as such"


@pytest.mark.parametrize(
    ("rows", "target", "one_of"),
    [
        (300, lambda a, b, wrong: (a > 0) ^ (b > 0) ^ (wrong < 0.37), 0.8),  # for halves
        (1000, lambda a, b, wrong: ((np.floor(a * 1.5) + np.floor(b * 1.5)) % 2 > 0) ^ (wrong < 0.15), 0.8),  # quarters
        (300, lambda a, b, wrong: (a**2 + b**2 > 1.4) ^ (wrong < 0.3), 0.9),  # for the bend
    ],
)
def test_faint_signal_is_mostly_kept(rows, target, one_of):
    kept = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=rows), rng.normal(size=rows)
        frame = make_frame(target(a, b, rng.random(rows)), rng, a=a, b=b)
        kept.append(not {"a", "b"} & set(find_noise(frame, "y", "classification")))
    assert np.mean(kept) >= one_of


def test_a_column_of_noise_is_kept_one_time_in_five_at_most():
    rng, kept = np.random.default_rng(0), []
    for _ in range(20):
        frame = make_frame(rng.choice(["a", "b"], 500), rng)
        kept.append(1 - len(find_noise(frame, "y", "classification")) / 15)
    assert 0.05 < np.mean(kept) < 0.2


def test_useful_columns_of_a_rare_class_among_many_rows_are_kept():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(120_000) < 0.003, "fraud", "fine")
    columns = {"amount": np.exp(rng.normal(size=120_000) + (y == "fraud")), "hour": rng.normal(size=120_000)}
    columns["hour"] = np.where(y == "fraud", 2 * columns["hour"], columns["hour"])
    table = Table("payments", make_frame(y, rng, noise=12, **columns), "y")
    contract = derive_contract(table, table.frame, "auto", 0.2)
    features = {feature["name"]: feature for feature in contract["features"]}
    assert features["amount"]["used"] and features["hour"]["used"]
    assert features["amount"]["association"] == pytest.approx(0.52, abs=0.06)
    assert sum(feature["used"] for feature in features.values()) <= 8


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    "x", [np.arange(8.0), [None] * 8, [1.0, None] * 4, list("aabbccdd"), [True, None] * 4, [3] * 8]
)
def test_tiny_tables_are_measured_without_a_fault(task, x):
    y = ["a", "b"] * 4 if task == "classification" else np.arange(8) % 5
    frame = pd.DataFrame({"x": pd.Series(x), "z": np.arange(8) // 3, "y": y})
    assert 0 <= measure_associations(frame, "y", task)["x"] <= 1
    assert set(find_noise(frame, "y", task)) <= {"x", "z"}
