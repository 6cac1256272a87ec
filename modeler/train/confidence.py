"""How certain the scores on the held-out rows are: a 95 % interval around each, for the model card."""

from collections.abc import Callable, Sequence

import numpy as np

from modeler.model.contract import class_key
from modeler.train.interval import score_intervals
from modeler.train.metrics import LEVEL, RESAMPLES, encode_classes, resample_roc_auc, resample_rows, stack_probabilities

MOST_WEIGHTS = 20_000_000  # rows times resamples; of more than 20,000 rows fewer than 1000 resamples say the same
FEWEST_RESAMPLES = 200


def measure_intervals(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, list[float]]:
    """The 95 % interval of each metric of `score_answers`, as low and high. One that is undefined is left out.

    Shares of rows have E. Wilson's interval (1927), which also fits a share of 1. All others are percentiles of a bootstrap of
    the rows (B. Efron, 1979), for classes within each class. Rows are taken to be independent of each other.
    """
    if target["classes"]:
        return _measure_classes(answers, truth, target)
    truth, values = np.asarray(truth, dtype=float), np.array([answer["value"] for answer in answers])
    errors = np.stack([np.abs(truth - values), (truth - values) ** 2, truth, truth**2], axis=1)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        mae, mse, mean, square = (weights @ errors / len(truth)).T
        spread = square - mean**2
        return {"r2": 1 - mse / np.where(spread > 0, spread, np.nan), "mae": mae, "rmse": np.sqrt(mse)}

    rows = np.zeros(len(truth))
    intervals = _bootstrap(score, rows)
    if "interval" in target:
        share = score_intervals(answers, truth)["coverage"]
        intervals["coverage"] = measure_share(share * len(truth), len(truth))
        widths = np.array([answer["high"] - answer["low"] for answer in answers])
        intervals |= _bootstrap(lambda weights: {"interval_width": _take_medians(widths, weights)}, rows)
    return intervals


def measure_share(count: float, rows: int) -> list[float]:
    """The interval of a share of rows (E. Wilson, Journal of the American Statistical Association 22, 1927)."""
    from scipy.special import ndtri

    z, share = ndtri((1 + LEVEL) / 2), count / rows
    middle, reach = share + z**2 / (2 * rows), z * np.sqrt(share * (1 - share) / rows + (z / rows) ** 2 / 4)
    return [float(np.clip((middle + sign * reach) / (1 + z**2 / rows), 0, 1)) for sign in (-1, 1)]


def _measure_classes(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, list[float]]:
    keys = [class_key(label) for label in target["classes"]]
    codes = encode_classes([class_key(label) for label in truth], keys)
    given = encode_classes([class_key(answer["label"]) for answer in answers], keys)
    probabilities, right = stack_probabilities(answers), codes == given
    losses = -np.log(np.maximum(probabilities[np.arange(len(codes)), codes] / probabilities.sum(axis=1), 1e-7))
    held, answered = (np.bincount(part, minlength=len(keys)) for part in (codes, given))
    hits = np.bincount(codes[right], minlength=len(keys))
    of_class = (np.arange(len(keys)) == codes[:, None]) & right[:, None]
    columns = np.concatenate([losses[:, None], of_class, np.eye(len(keys))[given]], axis=1).astype(float)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        counted = weights.astype(float) @ columns
        found, named = np.split(counted[:, 1:], 2, axis=1)
        f1 = 2 * found / np.maximum(held + named, 1)
        balanced = (found[:, held > 0] / held[held > 0]).mean(axis=1)
        return {"balanced_accuracy": balanced, "f1_macro": f1.mean(axis=1), "log_loss": counted[:, 0] / len(codes)}

    intervals = {"accuracy": measure_share(right.sum(), len(codes))} | _bootstrap(score, codes)
    if held.min() > 0:
        drawn = _count_resamples(codes)
        areas = [_rank_precision(probabilities[:, place], codes == place) for place in _list_places(target)]
        precisions = [[area(weights) for area in areas] for weights in resample_rows(codes, drawn)]
        intervals["roc_auc"] = _take_percentiles(resample_roc_auc([answers], truth, target, drawn)[0])
        intervals["average_precision"] = _take_percentiles(np.concatenate(precisions, axis=1).mean(axis=0))
    for name, counts in (("recall", held), ("precision", answered)):
        shares = zip(keys, hits, counts)
        intervals |= {f"{name}:{key}": measure_share(hit, count) for key, hit, count in shares if count}
    return intervals


def _list_places(target: dict) -> range | list[int]:
    """The classes whose average precision counts, as in `score_answers`."""
    return [target["classes"].index(target["positive"])] if "positive" in target else range(len(target["classes"]))


def _rank_precision(scores: np.ndarray, of_class: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The average precision of one class, equal to scikit-learn's, for weights of shape (resamples, rows)."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of rows with the same score
    is_class = of_class[order]

    def average(weights: np.ndarray) -> np.ndarray:
        weights = weights.take(order, axis=1)
        found, named = (np.cumsum(part, axis=1)[:, last] for part in (weights * is_class, weights))
        return (np.diff(found, axis=1, prepend=0) * found / np.maximum(named, 1)).sum(axis=1) / found[:, -1]

    return average


def _count_resamples(rows: np.ndarray) -> int:
    return min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_WEIGHTS // len(rows)))


def _bootstrap(score: Callable[[np.ndarray], dict[str, np.ndarray]], strata: np.ndarray) -> dict[str, list[float]]:
    """The intervals of what `score` makes of weights of shape (resamples, rows)."""
    parts = [score(weights) for weights in resample_rows(strata, _count_resamples(strata))]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: _take_percentiles(values) for name, values in scores.items() if np.isfinite(values).all()}


def _take_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median of each resample, equal to numpy's, for weights of shape (resamples, rows)."""
    order = np.argsort(values, kind="stable")
    counted, rows = weights[:, order].cumsum(axis=1), len(values)
    return np.mean([values[order][(counted > place).argmax(axis=1)] for place in ((rows - 1) // 2, rows // 2)], axis=0)


def _take_percentiles(values: np.ndarray) -> list[float]:
    return np.percentile(values, [2.5, 97.5]).tolist()
