"""The probability from which the positive of two classes is answered, chosen by cross-validated answers."""

import numpy as np
import pandas as pd

from modeler import ModelerError

RECALLS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5)  # rows of the table


def choose_threshold(rule: str, is_positive: np.ndarray, probability: np.ndarray) -> float:
    """The threshold that a rule means: a number as a text, "auto" or "recall:0.9".

    "auto" takes the best F1 (C. J. van Rijsbergen, Information Retrieval, 1979), "recall:R" the highest threshold at which at
    least R of the positives are found. Both are rounded down to four digits, so that no positive is lost by that. `probability`
    must come from models that did not see their rows, and never from the hold-out. A ModelerError: this recall would answer
    every row with the positive class.
    """
    from sklearn.metrics import precision_recall_curve

    word, _, share = rule.partition(":")
    if word not in ("auto", "recall"):
        return float(rule)
    precision, recall, thresholds = precision_recall_curve(is_positive, probability)
    precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
    if word == "recall":
        chosen = np.flatnonzero(recall >= float(share))[-1]
        if thresholds[chosen] <= probability.min():
            most = recall[thresholds > probability.min()].max(initial=0)
            raise ModelerError(
                f"a recall of {share} needs every row to be answered with the positive class; take at most recall:{most:.3f}, "
                "or another estimator"
            )
    else:
        chosen = np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    return _round_down(float(thresholds[chosen]))


def list_thresholds(threshold: float, is_positive: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """What thresholds would do: the share of rows flagged, precision and recall; the one in use, 0.5, and one for each recall.

    Columns: threshold, meaning, flagged, precision, recall; the highest threshold first.
    """
    meant = {"auto": "best F1"} | {f"recall:{share}": f"recall {share}" for share in RECALLS}
    rows = {0.5: "0.5"}
    for rule, meaning in meant.items():
        try:
            rows.setdefault(choose_threshold(rule, is_positive, probability), meaning)
        except ModelerError:  # it would flag every row
            continue
    rows[threshold] = f"{rows[threshold]}, in use" if threshold in rows else "in use"
    table = []
    for value in sorted(rows, reverse=True):
        flagged = probability >= value
        found = (flagged & is_positive).sum()
        table.append([value, rows[value], flagged.mean(), found / max(flagged.sum(), 1), found / is_positive.sum()])
    return pd.DataFrame(table, columns=["threshold", "meaning", "flagged", "precision", "recall"])


def _round_down(value: float, digits: int = 4) -> float:
    if value <= 0:
        return 0.0
    places = digits - 1 - int(np.floor(np.log10(value)))
    return round(np.floor(value * 10**places) / 10**places, places)
