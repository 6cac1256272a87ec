"""The metrics of a model on rows it has not seen, defined once for train.ipynb and the gate."""

from collections.abc import Iterable, Sequence

import numpy as np

from modeler import ModelerError
from modeler.model.contract import class_key

PRIMARY = {"classification": "roc_auc", "regression": "r2"}
RESAMPLES = 1000  # of the bootstrap
BLOCK = 200_000  # weights drawn at a time: they fit into the processor's cache


def score_answers(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, float | None]:
    """Score the answers of `decode_answers` by the definitions of sklearn.metrics; `truth` has the class or value per row.

    Classes: accuracy, balanced_accuracy, roc_auc and average_precision (several classes: macro one-vs-rest; two: the positive
    one), f1_macro, log_loss, and recall:CLASS and precision:CLASS of every class. Values: r2, mae and rmse. None for an undefined metric, such as roc_auc if `truth`
    lacks a class.
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
    probabilities = _stack_probabilities(answers)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, labels, labels=keys, zero_division=0.0
    )
    codes = encode_classes(truth, keys)
    likelihood = probabilities[np.arange(len(codes)), codes] / probabilities.sum(axis=1)
    return {
        "accuracy": float(metrics.accuracy_score(truth, labels)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "roc_auc": measure_roc_auc(probabilities, codes) if support.min() > 0 else None,
        "average_precision": _measure_average_precision(probabilities, codes, target) if support.min() > 0 else None,
        "f1_macro": float(f1.mean()),
        "log_loss": float(-np.log(np.maximum(likelihood, 1e-7)).mean()),  # 1e-7 is a float32's resolution
        **{f"recall:{key}": float(value) if n else None for key, value, n in zip(keys, recall, support)},
        **{f"precision:{key}": float(value) for key, value in zip(keys, precision)},
    }


def encode_classes(truth: Sequence[str], keys: list[str]) -> np.ndarray:
    """The position of each row's class among `keys`."""
    positions = {key: position for position, key in enumerate(keys)}
    if unknown := sorted(set(truth) - positions.keys()):
        raise ModelerError(
            f"{unknown[0]!r} is none of the classes {', '.join(keys)}; run eda.ipynb on these data again"
        )
    return np.array([positions[key] for key in truth])


def measure_roc_auc(
    probabilities: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the ROC curve: of the last of two classes, or the mean of each class against the rest.

    Equal to sklearn.metrics.roc_auc_score. `probabilities` has the shape (rows, classes), `codes` the position of each
    row's class. With `weights` of shape (resamples, rows), the areas have the shape (resamples,).
    """
    counted = np.ones((1, len(codes))) if weights is None else weights
    areas = _average_area(_rank_classes(probabilities, codes), counted)
    return float(areas[0]) if weights is None else areas


def resample_primary(models: Sequence[Sequence[dict]], truth: Sequence, target: dict) -> np.ndarray:
    """The primary metric of several models, shape (models, RESAMPLES), on the same seeded resamples of the same rows.

    `models` holds each model's answers. The bootstrap resamples within classes, or within fifths of a numeric target, so
    each resample has all of them (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). The
    difference of two models is paired.
    """
    if target["classes"]:
        codes = encode_classes([class_key(label) for label in truth], [class_key(label) for label in target["classes"]])
        rankings = [_rank_classes(_stack_probabilities(answers), codes) for answers in models]
        blocks = [[_average_area(ranking, part) for ranking in rankings] for part in _resample(codes)]
    else:
        truth = np.asarray(truth, dtype=float)
        lost = [(truth - np.array([answer["value"] for answer in answers])) ** 2 for answers in models]
        fifths = np.argsort(np.argsort(truth, kind="stable"), kind="stable") * 5 // len(truth)
        centred = truth - truth.mean()
        columns, blocks = np.column_stack([centred, centred**2, *lost]), []
        for part in _resample(fifths):
            total, squares, *errors = (part.astype(float) @ columns).T
            blocks.append(1 - errors / (squares - total**2 / len(truth)))
    return np.concatenate(blocks, axis=1)


def measure_interval(gains: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled gains (B. Efron, 1979).

    A ModelerError refuses undefined gains, such as R² on equal values.
    """
    if not np.isfinite(gains).all():
        raise ModelerError("the metric is undefined on the held-out rows; raise holdout or bring more rows")
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _measure_average_precision(probabilities: np.ndarray, codes: np.ndarray, target: dict) -> float:
    """The mean precision over the recalls, of the positive of two classes or the mean of each class against the rest."""
    from sklearn.metrics import average_precision_score

    positions = range(probabilities.shape[1])
    if "positive" in target:
        positions = [target["classes"].index(target["positive"])]
    areas = [average_precision_score(codes == position, probabilities[:, position]) for position in positions]
    return float(np.mean(areas))


def _stack_probabilities(answers: Sequence[dict]) -> np.ndarray:
    """The probabilities of answers, shape (rows, classes)."""
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def _rank_classes(probabilities: np.ndarray, codes: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """For each class: its rows and the others, both by score, and per row of the class, the number of others below it
    and the number below or level with it. Two classes need only the last."""
    ranking = []
    for index in [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1]):
        scores, of_class = probabilities[:, index], codes == index
        parts = np.flatnonzero(of_class), np.flatnonzero(~of_class)
        rows, rest = (part[np.argsort(scores[part], kind="stable")] for part in parts)
        below, level = (np.searchsorted(scores[rest], scores[rows], side) for side in ("left", "right"))
        ranking.append((rows, rest, below, level))
    return ranking


def _average_area(ranking: Iterable[tuple[np.ndarray, ...]], weights: np.ndarray) -> np.ndarray:
    """The mean over the classes of the probability that a row of the class outranks another row (Mann-Whitney U).

    A tie counts half; `weights` has the shape (resamples, rows).
    """
    areas = []
    for rows, rest, below, level in ranking:
        passed = np.zeros((len(weights), len(rest) + 1), weights.dtype)
        np.cumsum(weights.take(rest, axis=1), axis=1, out=passed[:, 1:])
        counted = weights.take(rows, axis=1)
        wins = (counted * (passed.take(below, axis=1) + passed.take(level, axis=1))).sum(axis=1) / 2
        areas.append(wins / (counted.sum(axis=1) * passed[:, -1]))
    return np.mean(areas, axis=0)


def _resample(strata: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Iterable[np.ndarray]:
    """Yield blocks of bootstrap weights, shape (resamples in the block, rows); each stratum keeps its size."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    block = max(1, BLOCK // len(strata))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        weights = np.empty((count, len(strata)), dtype=np.int64)
        for rows in groups:
            drawn = rng.integers(len(rows), size=(count, len(rows))) + np.arange(count)[:, None] * len(rows)
            weights[:, rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield weights
