"""What a person is told of a candidate that passes."""

import numpy as np
import pandas as pd
import pytest

from modeler.data.derive import derive_contract
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import split_rows
from modeler.data.tables import Table
from modeler.gate.candidate import Candidate
from modeler.gate.warnings import list_warnings


def make_candidate(y: np.ndarray, task: str = "classification", rule: str = "refuse") -> Candidate:
    """A candidate that answers every row with the commonest class, or the mean."""
    x = np.random.default_rng(0).normal(size=len(y)) + pd.factorize(y)[0]
    table = Table("made", pd.DataFrame({"x": x, "y": y}), "y", task)
    table = settle_rare_classes(table, rule, 0.2)
    frame, heldout = table.frame, split_rows(table.frame, 0.2)
    contract = derive_contract(table, frame[~heldout], 0, 0.2)
    classes = contract["target"]["classes"]
    answer = {"value": frame["y"].mean()} if task == "regression" else {
        "label": frame["y"].mode()[0], "probabilities": {label: 1 / len(classes) for label in classes},
    }  # fmt: skip
    truth = frame["y"][heldout].tolist()
    return Candidate("v", contract, table, heldout, [], truth, [answer] * len(truth))


def find(candidate: Candidate, kind: str, **told) -> dict | None:
    found = [warning for warning in list_warnings(candidate, told) if warning["kind"] == kind]
    assert len(found) <= 1
    return found[0] if found else None


RARE = np.array(["fraud"] * 40 + ["fine"] * 960)


def test_rare_positive_is_told_with_both_ways_on():
    warning = find(make_candidate(RARE), "rare positive", threshold="0.5")
    assert warning["columns"] == ["y"]
    assert warning["message"].startswith("4 % of the rows are fraud, and from the probability 0.5 on the model finds 0 % of")
    assert "-p threshold=auto" in warning["message"] and "-p threshold=recall:0.9" in warning["message"]


@pytest.mark.parametrize("threshold", ["auto", "recall:0.9", "0.2"])
def test_rare_positive_is_not_told_once_a_threshold_was_chosen(threshold):
    assert find(make_candidate(RARE), "rare positive", threshold=threshold) is None


def test_positive_that_is_not_rare_is_not_told():
    y = np.array(["fraud"] * 120 + ["fine"] * 880)
    assert find(make_candidate(y), "rare positive", threshold="0.5") is None


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("drop", "20 rows of 5 rare classes were left out (c, d, e, f, g); a row of these is answered as one of the other classes"),
        ("other", "20 rows of 5 rare classes were joined to one class (c, d, e, f, g); a row of these is answered as that class"),
    ],
)
def test_what_became_of_rare_classes_is_told(rule, told):
    y = np.array(["a"] * 200 + ["b"] * 200 + list("cdefg") * 4)
    assert find(make_candidate(y, rule=rule), "rare classes")["message"] == told
    assert find(make_candidate(y[:400], rule=rule), "rare classes") is None


def test_skewed_target_is_told_and_an_even_one_not():
    noise = np.random.default_rng(0).normal(size=500)
    warning = find(make_candidate(np.exp(noise), "regression"), "skewed target")
    assert "'y' is skewed (skewness " in warning["message"] and "look at mae too" in warning["message"]
    assert find(make_candidate(noise, "regression"), "skewed target") is None
