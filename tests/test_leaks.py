"""Too good to be true: columns that give the target, and copies of rows on both sides of the split."""

import re

import numpy as np
import pandas as pd
import pytest
from palmerpenguins import load_penguins
from sklearn import datasets

from modeler.data.copies import find_copies
from modeler.data.derive import read_columns
from modeler.data.leaks import find_leaks
from modeler.data.rows import split_rows
from modeler.data.tables import Table, load_table


def find(frame, task="classification") -> list[list[str]]:
    return [warning["columns"] for warning in find_leaks(frame, "y", task)]


def make_frame(rng, n=1000, **columns) -> pd.DataFrame:
    return pd.DataFrame(columns | {f"x{i}": rng.lognormal(size=n) for i in range(8)})


def test_sign_of_a_column_gives_a_direction():
    rng = np.random.default_rng(0)
    frame = make_frame(rng, today=rng.normal(size=1000), volume=rng.normal(size=1000))
    frame["y"] = np.where(frame["today"] > 0, "up", "down")
    (warning,) = find_leaks(frame, "y", "classification")
    assert warning == {
        "kind": "leak",
        "columns": ["today"],
        "message": "'today' alone gives the target 'y': is it known when the prediction is made? "
        "If not, leave it out with -p leave_out='today'",
    }


@pytest.mark.parametrize("n", [100, 1000, 8000])
def test_sum_of_two_columns_gives_a_number(n):
    rng = np.random.default_rng(0)
    casual, registered = rng.poisson(30, size=n), rng.poisson(150, size=n) * rng.integers(1, 4, size=n)
    frame = make_frame(rng, n, casual=casual, registered=registered).assign(y=casual + registered)
    (warning,) = find_leaks(frame, "y", "regression")
    assert warning["columns"] == ["casual", "registered"]
    assert warning["message"].startswith("the sum of 'casual' and 'registered' alone gives the target 'y'")
    assert warning["message"].endswith("leave it out with -p leave_out='casual,registered'")


def test_difference_of_two_columns_gives_classes():
    rng = np.random.default_rng(0)
    frame = make_frame(rng, opened=rng.normal(100, 20, 1000))
    frame["closed"] = frame["opened"] + rng.normal(size=1000)
    for cuts in ([0], [-0.5, 0.5]):
        frame["y"] = np.digitize(frame["closed"] - frame["opened"], cuts)
        assert find(frame) == [["opened", "closed"]]
        assert "the difference of 'opened' and 'closed'" in find_leaks(frame, "y", "classification")[0]["message"]


def test_rare_class_gap_interval_and_text_give_the_target_away():
    rng = np.random.default_rng(0)
    y = np.arange(30_000) < 90
    frame = make_frame(rng, 30_000, paid_back=np.where(y, rng.random(30_000) + 1, rng.random(30_000)), y=y)
    assert find(frame) == [["paid_back"]]
    frame["paid_back"] = pd.Series(rng.random(30_000)).where(y)
    assert find(frame) == [["paid_back"]]
    frame["paid_back"] = rng.choice(list("abc"), 30_000).astype(object)
    frame.loc[y, "paid_back"] = rng.choice(["x", "z"], y.sum())
    assert find(frame) == [["paid_back"]]
    frame["paid_back"] = rng.random(30_000)
    frame["y"] = frame["paid_back"].between(0.3, 0.32)
    assert find(frame) == [["paid_back"]]


def test_curved_copy_of_a_number_gives_it():
    rng = np.random.default_rng(0)
    frame = make_frame(rng).assign(y=lambda frame: frame["x3"] ** 3)
    assert find(frame, "regression") == [["x3"]]
    frame["x3"] *= rng.normal(1, 0.1, 1000)
    assert find(frame, "regression") == []


def test_few_rows_or_strong_columns_are_no_leak():
    rng = np.random.default_rng(0)
    rare = np.arange(2000) > 1990
    assert find(make_frame(rng, 2000, y=rare).assign(x1=np.arange(2000))) == []  # nine rows
    assert find(make_frame(rng, 2000, y=np.arange(2000) > 1989).assign(x1=np.arange(2000))) == [["x1"]]
    y = rng.random(2000) < 0.5
    columns = {f"strong {i}": y * 2.8 + rng.normal(size=2000) for i in range(4)}
    assert find(make_frame(rng, 2000, **columns, y=y)) == []  # each has ROC AUC 0.976, the sum of two 0.997


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine", "diabetes", "penguins"])
def test_honest_tables_give_no_warning(name):
    if name == "penguins":
        frame = load_penguins().rename(columns={"species": "y"})
    else:
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        frame = bunch.data.assign(y=bunch.target)
    assert find(frame, "regression" if name == "diabetes" else "classification") == []
    assert find_copies(frame, split_rows(frame, 0.2))[1] is None


def test_option_in_a_warning_is_understood_by_the_contract():
    rng = np.random.default_rng(0)
    frame = make_frame(rng, **{'size, "net"': rng.normal(size=1000), "fee": rng.normal(size=1000)})
    frame["y"] = frame['size, "net"'] + frame["fee"]
    (warning,) = find_leaks(frame, "y", "regression")
    told = re.search(r"-p leave_out='(.*)'$", warning["message"])[1]
    assert read_columns(told, Table("t", frame, "y")) == warning["columns"] == ['size, "net"', "fee"]


def paste(frame, share) -> pd.DataFrame:
    return pd.concat([frame, frame.sample(frac=share, random_state=0)], ignore_index=True)


def test_pasted_copies_on_both_sides_are_found_and_told():
    frame = paste(load_table("breast_cancer").frame, 0.05)
    heldout = split_rows(frame, 0.2)
    copied, warning = find_copies(frame, heldout)
    training = set(map(tuple, frame[~heldout].to_numpy()))
    expected = [row in training for row in map(tuple, frame[heldout].to_numpy())]
    assert copied.tolist() == expected and sum(expected) > 2
    assert (warning["kind"], warning["columns"]) == ("copies", [])
    assert warning["message"].startswith(
        f"{sum(expected)} of {heldout.sum()} held-out rows are exact copies of training"
    )


def make_discrete(rng, n=1300) -> pd.DataFrame:
    frame = pd.DataFrame({"class": rng.choice(["1", "2", "3", "crew"], n, p=[0.15, 0.13, 0.32, 0.4])})
    frame["sex"] = np.where((frame["class"] == "crew") | (rng.random(n) < 0.6), "man", "woman")
    frame["age"] = rng.choice(["adult", "child", None], n, p=[0.9, 0.05, 0.05])
    return frame.assign(y=rng.random(n) < np.where(frame["sex"] == "woman", 0.75, 0.2))


@pytest.mark.parametrize(
    ("extra", "pasted", "warned"),
    [
        (lambda frame, rng: frame, 0, False),
        (lambda frame, rng: frame.assign(code=frame["sex"] == "man", deck=frame["class"].str[0]), 0, False),
        (lambda frame, rng: frame.assign(years=rng.integers(18, 80, len(frame))), 0, False),
        (lambda frame, rng: frame.assign(**{f"b{i}": rng.random(len(frame)) < 0.5 for i in range(8)}), 0, False),
        (lambda frame, rng: frame.assign(**{f"b{i}": rng.random(len(frame)) < 0.1 for i in range(20)}), 0, False),
        (lambda frame, rng: frame.assign(fare=rng.lognormal(size=len(frame))), 0, False),
        (lambda frame, rng: frame.assign(fare=rng.lognormal(size=len(frame))), 0.05, True),
        (lambda frame, rng: frame.assign(fare=rng.lognormal(size=len(frame))), 1, True),
        (lambda frame, rng: frame.assign(one=rng.integers(300, size=1300), two=rng.integers(99, size=1300)), 0, False),
        (lambda frame, rng: frame.assign(one=rng.integers(300, size=1300), two=rng.integers(99, size=1300)), 0.15, True),
    ],
)  # fmt: skip
def test_chance_is_told_from_pasting(extra, pasted, warned):
    rng = np.random.default_rng(0)
    frame = paste(extra(make_discrete(rng), rng), pasted)
    copied, warning = find_copies(frame, split_rows(frame, 0.2))
    assert (warning is not None) is warned
    assert len(copied) == split_rows(frame, 0.2).sum()


def test_copies_on_one_side_are_no_matter():
    frame = paste(load_table("breast_cancer").frame, 1).assign(patient=list(range(569)) * 2)
    pasted = pd.concat([frame.iloc[:569], frame.iloc[569:].assign(patient=range(569))], ignore_index=True)
    heldout = split_rows(pasted, 0.2, "patient")
    copied, warning = find_copies(pasted, heldout)
    assert len(copied) == heldout.sum() and warning is None
