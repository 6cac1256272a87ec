"""Classes with too few rows: refused with ways on, left out, or joined."""

import numpy as np
import pandas as pd
import pytest

from modeler import ModelerError
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import check_split, count_dealt, split_rows
from modeler.data.tables import Table


def make_table(counts: dict, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.array(list(counts), dtype=object), list(counts.values()))
    frame = pd.DataFrame({"x": rng.normal(size=len(labels)), "y": labels}).infer_objects()
    return Table("made", frame, "y", "classification")


TAIL = {"a": 200, "b": 150, "c": 3, "d": 2, "e": 40, "f": 4}


def test_refusal_names_the_class_and_both_ways_on():
    table = make_table(TAIL)
    assert settle_rare_classes(table, "refuse", 0.2) is table
    with pytest.raises(ModelerError, match="class 'c' of 'y' has .* leave such classes out with -p rare_classes=drop, join"):
        check_split(table, split_rows(table.frame, 0.2))


def test_rows_of_rare_classes_are_left_out_and_counted():
    table = make_table(TAIL)
    settled = settle_rare_classes(table, "drop", 0.2)
    assert set(settled.frame["y"]) == {"a", "b", "e"} and len(settled.frame) == 390
    assert settled.rare == {"rule": "drop", "classes": ["c", "d", "f"], "rows": 9}
    assert settled.notes[-1] == "classes with few rows: c, d, f, 9 of 399 rows, are left out"
    check_split(settled, split_rows(settled.frame, 0.2))
    was = split_rows(table.frame, 0.2)[table.frame["y"].isin(["a", "b", "e"])]
    assert (split_rows(settled.frame, 0.2) == was).all()  # nobody changed sides


def test_rare_classes_are_joined_under_a_label_of_the_targets_type():
    texts = settle_rare_classes(make_table(TAIL | {"g": 4, "h": 4, "i": 4}), "other", 0.2)
    assert texts.frame["y"].value_counts().to_dict() == {"a": 200, "b": 150, "e": 40, "other": 21}
    numbers = settle_rare_classes(make_table({1: 100, 2: 90, 3: 4, 4: 4, 5: 4, 6: 4, 7: 4}), "other", 0.2)
    assert numbers.frame["y"].value_counts().to_dict() == {1: 100, 2: 90, -1: 20}
    assert numbers.frame["y"].dtype == "int64" and numbers.rare["classes"] == ["3", "4", "5", "6", "7"]


def test_nothing_happens_where_no_class_is_rare_or_values_are_predicted():
    table = make_table({"a": 100, "b": 100})
    assert settle_rare_classes(table, "drop", 0.2) is table
    values = Table("made", pd.DataFrame({"x": range(50), "y": np.arange(50) + 0.5}), "y", "regression")
    assert settle_rare_classes(values, "other", 0.2) is values


@pytest.mark.parametrize(
    ("counts", "rule", "sentence"),
    [
        ({"a": 3, "b": 2, "c": 4}, "drop", "3 of the 3 classes of 'y' have fewer than 5 rows .* leaves no two classes"),
        ({"a": 3, "b": 2, "c": 4}, "other", "3 of the 3 classes of 'y'"),
        ({"a": 200, "b": 1}, "drop", "1 of the 2 classes of 'y' .*-p rare_classes=drop leaves no two classes"),
        ({"a": 200, "b": 1}, "other", "even joined, the rare classes of 'y' have 1 rows to train on and 0 held out"),
        ({"a": 99, "other": 99, "c": 2}, "other", "'y' has a class 'other' already; .*rare_classes=drop"),
        ({0: 99, -1: 99, 7: 2}, "other", "'y' has a class -1 already"),
        ({True: 99, False: 2}, "other", "'y' holds booleans; leave"),
    ],
)
def test_what_cannot_be_settled_is_a_sentence(counts, rule, sentence):
    with pytest.raises(ModelerError, match=sentence):
        settle_rare_classes(make_table(counts), rule, 0.2)


def test_rows_are_counted_by_class_or_all_together():
    table = make_table({"a": 6, "b": 4})
    heldout = np.array([True] * 2 + [False] * 8)
    assert count_dealt(table, heldout) == {"a": (4, 2), "b": (4, 0)}
    values = Table("made", table.frame.assign(y=np.arange(10.0)), "y", "regression")
    assert count_dealt(values, heldout) == {None: (8, 2)}
