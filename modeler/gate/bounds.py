"""Floors and ceilings of metrics: which exist, how to write them, and whether a candidate keeps them."""

import math
from collections.abc import Sequence

from modeler import UsageError
from modeler.model.contract import class_key

FLOORS = {
    "classification": [
        "accuracy",
        "balanced_accuracy",
        "roc_auc",
        "average_precision",
        "f1_macro",
        "recall:CLASS",
        "precision:CLASS",
    ],
    "regression": ["r2", "coverage"],
}
CEILINGS = {"classification": ["log_loss"], "regression": ["mae", "rmse", "interval_width"]}
OF_INTERVALS = ("coverage", "interval_width")
BUILT_IN_FLOORS = {("breast_cancer", "diagnosis"): {"accuracy": 0.93, "recall:malignant": 0.9}}  # by data and target


def check_bounds(
    bounds: Sequence[str], option: str, classes: list | None, has_interval: bool = False
) -> dict[str, float]:
    """Parse the METRIC=VALUE bounds of `option`, "--min" or "--max", for these classes; None for a regression.

    `has_interval` says whether values are to have one. A UsageError names the metrics that are allowed.
    """
    task = "classification" if classes else "regression"
    kinds = (FLOORS if option == "--min" else CEILINGS)[task]
    keys = [class_key(label) for label in classes or []]
    allowed = [kind.replace("CLASS", key) for kind in kinds for key in (keys if kind.endswith("CLASS") else [""])]
    checked = {}
    for bound in bounds:
        metric, _, value = bound.rpartition("=")
        if metric in checked:
            raise UsageError(f"{option} {bound}: {metric} is given twice; give it once")
        if metric in OF_INTERVALS and metric in allowed and not has_interval:
            raise UsageError(f"{option} {bound}: without an interval there is no {metric}; add -p interval=0.9")
        if metric not in allowed:
            raise UsageError(
                f"{option} {bound}: no such bound for a {task}; it takes METRIC=VALUE with one of {', '.join(allowed)}"
            )
        try:
            checked[metric] = float(value)
        except ValueError:
            raise UsageError(
                f"{option} {bound}: {value!r} is not a number; give one, as in {option} {metric}=0.9"
            ) from None
        if not math.isfinite(checked[metric]):
            raise UsageError(f"{option} {bound}: the bound must be a finite number, got {value}")
    return checked


def find_floors(data: str, target: str | None) -> dict[str, float]:
    """The floors that nobody gives, of built-in data and a target; without a target, of the data's own."""
    return next((own for (name, its), own in BUILT_IN_FLOORS.items() if name == data and (target or its) == its), {})


def check_bound(name: str, value: float | None, bound: float, sign: int):
    """The check of one floor (`sign` 1) or ceiling (-1)."""
    from modeler.gate.checks import Check  # late: it imports what a retrain that executes nothing does not need

    kind, side = ("floor", "below") if sign > 0 else ("ceiling", "above")
    if value is None:
        return Check(f"{kind} of {name}", False, None, bound, f"{name} could not be computed on the held-out rows")
    passed = sign * (value - bound) >= 0
    sentence = (
        f"{name} {value:.4f} keeps the {kind} {bound:g}"
        if passed
        else f"{name} {value:.4f} is {side} its {kind} {bound:g}"
    )
    return Check(f"{kind} of {name}", passed, value, bound, sentence)
