"""Figures of the sides on rows that none trained on: scores with intervals, gains in pairs, and where they disagree."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from modeler import ModelerError
from modeler.compare.rows import Rows
from modeler.gate.champion import FEWEST, FEWEST_OF_CLASS, compare_classes
from modeler.model.contract import class_key
from modeler.train.confidence import measure_intervals
from modeler.train.metrics import compare_values, score_answers, stack_probabilities

Scores = dict[str, dict[str, dict[str, float | None]]]


def score_sides(rows: Rows) -> Scores:
    """Every metric of every side as `value`, `low` and `high`, the ends of the 95 % interval; None where undefined."""
    scores = {}
    for name, answers in rows.answers.items() if rows.truth else ():
        target = rows.targets[name]
        intervals = measure_intervals(answers, rows.truth, target)
        scores[name] = {
            metric: dict(zip(("value", "low", "high"), (value, *intervals.get(metric, (None, None)))))
            for metric, value in score_answers(answers, rows.truth, target).items()
        }
    return scores


def pair_scores(rows: Rows) -> tuple[list[dict], str]:
    """What every side gains over the first on the same rows, with the 95 % interval, and a sentence where nothing is compared.

    Classes: in ROC AUC, by a bootstrap in pairs. Values: in both measures of `compare_values`. Each gain is a dict with
    `side` and `over`, and the fields of a `Gain`.
    """
    if len(rows.answers) < 2:
        return [], "fewer than two sides answer the same rows, so there is no difference to measure"
    (first, theirs), *others = rows.answers.items()
    classes = rows.targets[first]["classes"]
    counts = pd.Series([class_key(label) for label in rows.truth]).value_counts()
    keys = [class_key(label) for label in classes or []]
    if len(rows.truth) < FEWEST or any(counts.get(key, 0) < FEWEST_OF_CLASS for key in keys):
        of_class = f" and {FEWEST_OF_CLASS} of each class" if classes else ""
        return [], f"{len(rows.truth)} rows are too few for an interval of the difference: it needs {FEWEST}{of_class}"
    gains = []
    for name, ours in others:
        try:
            if classes:
                found = [compare_classes(ours, theirs, rows.truth, rows.targets[first])]
            else:
                found = compare_values(*(list_values(one) for one in (ours, theirs)), rows.truth, rows.known)
        except ModelerError as error:
            return [], f"no difference can be measured: {error}"
        gains += [{"side": name, "over": first} | asdict(gain) for gain in found]
    return gains, ""


def list_values(answers: list[dict]) -> np.ndarray:
    """The values of answers of a regression."""
    return np.array([answer["value"] for answer in answers])


def list_disagreements(rows: Rows) -> pd.DataFrame:
    """The rows on which the sides disagree, those furthest apart first: truth, every side's answer, and `apart`.

    Classes disagree where two sides give other labels; `apart` is the greatest difference of a class's probability. Values
    disagree where two lie further apart than half the smallest mean absolute error of a side.
    """
    if len(rows.answers) < 2 or not rows.truth:
        return pd.DataFrame()
    names, truth = [*rows.answers], pd.Series(rows.truth, rows.frame.index)
    if next(iter(rows.targets.values()))["classes"]:
        given = {name: [class_key(answer["label"]) for answer in rows.answers[name]] for name in names}
        spread = np.ptp([stack_probabilities(rows.answers[name]) for name in names], axis=0).max(axis=1)
        table = pd.DataFrame(given, rows.frame.index)
        is_apart, truth = table.nunique(axis=1) > 1, truth.map(class_key)
    else:
        table = pd.DataFrame({name: list_values(rows.answers[name]) for name in names}, rows.frame.index)
        spread = np.ptp(table.to_numpy(), axis=1)
        is_apart = spread > table.sub(truth, axis=0).abs().mean().min() / 2
    table.insert(0, "truth", truth)
    table["apart"] = spread
    return table[is_apart].sort_values("apart", ascending=False, kind="stable")
