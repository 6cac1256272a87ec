"""The metrics of a model on rows it has not seen: one definition for train.ipynb, which writes them, and the gate."""

from collections.abc import Iterable, Sequence

import numpy as np

from modeler import ModelerError
from modeler.model.contract import class_key

PRIMARY = {"classification": "roc_auc", "regression": "r2"}
RESAMPLES = 1000  # of the bootstrap
BLOCK = 200_000  # weights drawn at a time, so that they stay in the processor's cache


def score_answers(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, float | None]:
    """Score answers as the API gives them, by the definitions of sklearn.metrics.

    Parameters
    ----------
    answers, truth
        What `decode_answers` returned, and the true classes or values, one a row.
    target
        The contract's target.

    Returns
    -------
    dict
        For classes accuracy, balanced_accuracy, roc_auc (several classes: macro one-vs-rest), f1_macro, log_loss, and
        recall:CLASS and precision:CLASS of every class; for values r2, mae and rmse. None for a metric that is undefined,
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
    probabilities = _stack_probabilities(answers)
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
    probabilities, codes
        Shape (rows, classes), and the position of every row's class, shape (rows,).
    weights
        How often each row counts, shape (resamples, rows); then the areas have shape (resamples,).
    """
    counted = np.ones((1, len(codes))) if weights is None else weights
    areas = _average_area(_rank_classes(probabilities, codes), counted)
    return float(areas[0]) if weights is None else areas


def resample_primary(models: Sequence[Sequence[dict]], truth: Sequence, target: dict) -> np.ndarray:
    """The primary metric of several models, shape (models, RESAMPLES), on the same seeded resamples of the same rows.

    Rows are resampled within classes, or within fifths of a numeric target, so that every resample has them all
    (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). So the difference of two models is a
    paired one. `models` holds each model's answers to the rows, `truth` the rows' classes or values.
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

    A ModelerError says where a gain is undefined, as R² is for values that are all alike.
    """
    if not np.isfinite(gains).all():
        raise ModelerError("the metric is undefined on the held-out rows; raise holdout or bring more rows")
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _stack_probabilities(answers: Sequence[dict]) -> np.ndarray:
    """The probabilities of answers, shape (rows, classes)."""
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def _rank_classes(probabilities: np.ndarray, codes: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """For each class to be told from the rest: its rows, the rest by score, and how many of these lie below each row
    of the class, and how many below or level."""
    ranking = []
    for index in [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1]):
        scores, of_class = probabilities[:, index], codes == index
        rows, rest = (
            part[np.argsort(scores[part], kind="stable")] for part in map(np.flatnonzero, (of_class, ~of_class))
        )
        below, level = (np.searchsorted(scores[rest], scores[rows], side) for side in ("left", "right"))
        ranking.append((rows, rest, below, level))
    return ranking


def _average_area(ranking: Iterable[tuple[np.ndarray, ...]], weights: np.ndarray) -> np.ndarray:
    """Probability that a row of a class outranks one that is not of it, ties counting half (Mann-Whitney U), averaged
    over the classes; `weights` has shape (resamples, rows)."""
    areas = []
    for rows, rest, below, level in ranking:
        passed = np.zeros((len(weights), len(rest) + 1), weights.dtype)
        np.cumsum(weights.take(rest, axis=1), axis=1, out=passed[:, 1:])
        counted = weights.take(rows, axis=1)
        wins = (counted * (passed.take(below, axis=1) + passed.take(level, axis=1))).sum(axis=1) / 2
        areas.append(wins / (counted.sum(axis=1) * passed[:, -1]))
    return np.mean(areas, axis=0)


def _resample(strata: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Iterable[np.ndarray]:
    """Yield blocks of bootstrap weights, shape (resamples in the block, rows), each stratum keeping its size."""
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


def _measure_log_loss(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """Mean negative logarithm of the true class's probability, which is kept at 1e-7 or more (a float32's resolution)."""
    likelihood = probabilities[np.arange(len(codes)), codes] / probabilities.sum(axis=1)
    return float(-np.log(np.maximum(likelihood, 1e-7)).mean())
