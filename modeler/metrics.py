"""The metrics of a model on rows it has not seen: one definition for train.ipynb, which writes them, and the gate."""

from collections.abc import Sequence

import numpy as np

from modeler import ModelerError, UsageError
from modeler.contract import class_key

PRIMARY = {"classification": "roc_auc", "regression": "r2"}
FLOORS = {
    "classification": ["accuracy", "balanced_accuracy", "roc_auc", "f1_macro", "recall:CLASS", "precision:CLASS"],
    "regression": ["r2"],
}
CEILINGS = {"classification": ["log_loss"], "regression": ["mae", "rmse"]}


def score_answers(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, float | None]:
    """Score answers as the API gives them, by the definitions of sklearn.metrics.

    Parameters
    ----------
    answers
        What `decode_answers` returned, one a row.
    truth
        The true classes or values of these rows.
    target
        The contract's target.

    Returns
    -------
    dict
        For classes accuracy, balanced_accuracy, roc_auc (several classes: macro one-vs-rest), f1_macro, log_loss, and
        recall:CLASS and precision:CLASS of every class; for values r2, mae and rmse. None where a metric is undefined,
        such as roc_auc when a class is missing from `truth`.
    """
    from sklearn import metrics

    if not target["classes"]:
        truth, values = np.asarray(truth, dtype=float), np.array([answer["value"] for answer in answers])
        return {
            "r2": float(metrics.r2_score(truth, values)) if len(truth) > 1 else None,
            "mae": float(metrics.mean_absolute_error(truth, values)),
            "rmse": float(metrics.root_mean_squared_error(truth, values)),
        }
    keys = [class_key(label) for label in target["classes"]]
    truth, labels = [class_key(label) for label in truth], [class_key(answer["label"]) for answer in answers]
    probabilities = np.array([list(answer["probabilities"].values()) for answer in answers])
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        truth, labels, labels=keys, zero_division=0.0
    )
    codes, everywhere = encode_classes(truth, keys), support.min() > 0
    return {
        "accuracy": float(metrics.accuracy_score(truth, labels)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "roc_auc": measure_roc_auc(probabilities, codes) if everywhere else None,
        "f1_macro": float(metrics.f1_score(truth, labels, labels=keys, average="macro", zero_division=0.0)),
        "log_loss": _measure_log_loss(probabilities, codes),
        **{f"recall:{key}": float(value) if n else None for key, value, n in zip(keys, recall, support)},
        **{f"precision:{key}": float(value) for key, value in zip(keys, precision)},
    }


def encode_classes(truth: Sequence[str], keys: list[str]) -> np.ndarray:
    """The position of every row's class among `keys`."""
    positions = {key: position for position, key in enumerate(keys)}
    if unknown := sorted(set(truth) - positions.keys()):
        raise ModelerError(
            f"{unknown[0]!r} is none of the classes {', '.join(keys)}; run eda.ipynb on these data again"
        )
    return np.array([positions[key] for key in truth])


def measure_roc_auc(
    probabilities: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the ROC curve: of the last class for two, else the mean over the classes, each against the rest.

    Equal to sklearn.metrics.roc_auc_score, but takes many weightings of the rows at once, as a bootstrap needs them.

    Parameters
    ----------
    probabilities
        Shape (rows, classes).
    codes
        The position of every row's class, shape (rows,).
    weights
        How often each row counts, shape (resamples, rows); without it every row counts once.

    Returns
    -------
    float, or numpy.ndarray of shape (resamples,)
    """
    counted = np.ones((1, len(codes))) if weights is None else weights
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = np.mean([_weighted_area(probabilities[:, index], codes == index, counted) for index in classes], axis=0)
    return float(areas[0]) if weights is None else areas


def check_bounds(bounds: Sequence[str], option: str, classes: list | None) -> dict[str, float]:
    """Parse METRIC=VALUE bounds of `--min` or `--max` and hold them to the metrics there are for these classes.

    Parameters
    ----------
    bounds
        The option's values as given.
    option
        "--min" or "--max".
    classes
        The target's classes, None for a regression.

    Raises
    ------
    UsageError
        Naming the metrics that are allowed.
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
        if not np.isfinite(checked[metric]):
            raise UsageError(f"{option} {bound}: the bound must be a finite number, got {value}")
    return checked


def _weighted_area(scores: np.ndarray, is_class: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability that a row of the class outranks one that is not of it, ties counting half (Mann-Whitney U)."""
    order = np.argsort(scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) > 0, True))  # the last row of each run of equal scores
    inside = np.add.accumulate(weights[:, order] * is_class[order], axis=1)[:, ends]
    outside = np.add.accumulate(weights[:, order] * ~is_class[order], axis=1)[:, ends]
    of_class, of_rest = np.diff(inside, prepend=0), np.diff(outside, prepend=0)
    wins = (of_class * (outside - of_rest / 2)).sum(axis=1)
    return wins / (inside[:, -1] * outside[:, -1])


def _measure_log_loss(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """Mean negative logarithm of the true class's probability, which is kept at 1e-7 or more (a float32's resolution)."""
    likelihood = probabilities[np.arange(len(codes)), codes] / probabilities.sum(axis=1)
    return float(-np.log(np.maximum(likelihood, 1e-7)).mean())
