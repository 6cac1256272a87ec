"""The metrics of a model on rows it has not seen, defined once for train.ipynb and the gate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from modeler import ModelerError
from modeler.model.contract import class_key
from modeler.train.interval import score_intervals

RESAMPLES = 1000  # of the bootstrap
BLOCK = 200_000  # weights drawn at a time: they fit into the processor's cache
LEVEL = 0.95  # of every interval
TAILS = (0.05, 0.95)  # quantiles of the training values; a truth beyond them counts as lying there
UNDEFINED = "the metric is undefined on the held-out rows; raise holdout or bring more rows"
FEWEST_VALUES = 4  # rows; the interval of a rank correlation divides by their number less 3


@dataclass(frozen=True)
class Gain:
    """Two models by one measure, and by how much the first is better, with the 95 % interval of that and what it is."""

    measure: str
    ours: float
    theirs: float
    gain: float
    low: float
    high: float
    unit: str = "difference"


def score_answers(answers: Sequence[dict], truth: Sequence, target: dict) -> dict[str, float | None]:
    """Score the answers of `decode_answers` by the definitions of sklearn.metrics; `truth` has the class or value per row.

    Classes: accuracy, balanced_accuracy, roc_auc and average_precision (several classes: macro one-vs-rest; two: the positive
    one), f1_macro, log_loss, and recall:CLASS and precision:CLASS of every class. Values: r2, mae and rmse, and of intervals
    coverage, the share that holds the truth, and interval_width, their median. None for an undefined metric, such as roc_auc
    if `truth` lacks a class.
    """
    from sklearn import metrics

    if not target["classes"]:
        truth, values = np.asarray(truth, dtype=float), np.array([answer["value"] for answer in answers])
        return {
            "r2": float(metrics.r2_score(truth, values)) if len(truth) > 1 else None,
            "mae": float(metrics.mean_absolute_error(truth, values)),
            "rmse": float(metrics.root_mean_squared_error(truth, values)),
            **(score_intervals(answers, truth) if "interval" in target else {}),
        }
    keys = [class_key(label) for label in target["classes"]]
    truth, labels = [class_key(label) for label in truth], [class_key(answer["label"]) for answer in answers]
    probabilities = stack_probabilities(answers)
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


def resample_roc_auc(
    models: Sequence[Sequence[dict]], truth: Sequence, target: dict, resamples: int = RESAMPLES
) -> np.ndarray:
    """ROC AUC of several models, shape (models, resamples), on the same seeded resamples of the same rows.

    `models` holds each model's answers. The bootstrap resamples within classes, so each resample has all of them
    (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). The difference of two models is paired.
    """
    codes = encode_classes([class_key(label) for label in truth], [class_key(label) for label in target["classes"]])
    rankings = [_rank_classes(stack_probabilities(answers), codes) for answers in models]
    blocks = [[_average_area(ranking, part) for ranking in rankings] for part in resample_rows(codes, resamples)]
    return np.concatenate(blocks, axis=1)


def measure_interval(gains: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled gains (B. Efron, 1979).

    A ModelerError refuses undefined gains.
    """
    if not np.isfinite(gains).all():
        raise ModelerError(UNDEFINED)
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


def compare_values(
    ours: Sequence[float], theirs: Sequence[float], truth: Sequence[float], known: Sequence[float]
) -> list[Gain]:
    """The rule for values: two measures of two models, the order of their answers and the size of their errors.

    One model is clearly better than another if one of the two 95 % intervals lies wholly above 0 and the other measure is
    not lower; it is clearly worse if one of them lies wholly below a small margin. R² takes no part: with a log-normal
    target a handful of rows decide it. Nor do errors alone: with 40 rows, 30 % off a mean absolute error lie only 2.3
    standard errors above 0, so a test of them finds three of four such models. Order finds nearly all, and a model whose
    answers have nothing to do with the truth has none. `benchmarks/values.py` shows how often the rule errs.

    Order: C. Spearman's rank correlation (1904), ties by their mean rank; of answers that are all alike it is 0. Its
    interval is R. Fisher's z with the variance (1 + r² / 2) / (n - 3) (D. Bonett and T. Wright, Psychometrika 65, 2000);
    that of a difference on the same rows is G. Zou's (Psychological Methods 12, 2007).

    Error: the mean absolute error, truth and answers brought to the 5th and 95th percentile of the `known` values of
    training (winsorizing: J. Tukey, Annals of Mathematical Statistics 33, 1962), so no few rows decide; what an answer lies
    further outside all known and true values than these spread counts in full, so nonsense stays visible. Its gain is a
    share of the other model's error, and its interval Student's for paired differences.
    """
    truth, known = np.asarray(truth, dtype=float), np.asarray(known, dtype=float)
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if len(truth) < FEWEST_VALUES or np.ptp(truth) == 0:
        raise ModelerError(UNDEFINED)
    low, high = find_middle(known)
    errors = [measure_errors(values, truth, known) for values in (ours, theirs)]
    return [
        _compare_order(ours, theirs, truth),
        _share_off(f"mean absolute error from {low:.4g} to {high:.4g}", *errors),
    ]


def compare_recorded(values: Sequence[float], truth: Sequence[float], recorded: float) -> Gain:
    """The share that a model takes off another's mean absolute error on other rows, with Student's interval."""
    errors = np.abs(np.asarray(truth, dtype=float) - np.asarray(values, dtype=float))
    return _share_off("mae", errors, np.full(len(errors), float(recorded)))


def find_middle(known: np.ndarray) -> tuple[float, float]:
    """The range that holds nine tenths of the training values, or all of them where those nine tenths are alike."""
    low, high = np.quantile(known, TAILS)
    return (float(low), float(high)) if low < high else (float(known.min()), float(known.max()))


def measure_errors(values: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The absolute error of each row as `compare_values` counts it."""
    middle = find_middle(known)
    low, high = min(known.min(), truth.min()), max(known.max(), truth.max())
    excess = np.abs(values - np.clip(values, 2 * low - high, 2 * high - low))
    return np.abs(np.clip(truth, *middle) - np.clip(values, *middle)) + excess


def _compare_order(ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> Gain:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (ours, theirs, truth)]
    with np.errstate(invalid="ignore", divide="ignore"):  # of answers that are all alike
        first, second, both = np.nan_to_num(np.corrcoef(ranks))[[0, 1, 0], [2, 2, 1]].clip(-1, 1)

    def limit(r: float, values: np.ndarray) -> tuple[float, float]:
        if np.ptp(values) == 0:  # answers that are all alike order nothing, which is certain
            return 0.0, 0.0
        reach = ndtri((1 + LEVEL) / 2) * np.sqrt((1 + r**2 / 2) / (len(truth) - 3))
        with np.errstate(divide="ignore"):
            return r - np.tanh(np.arctanh(r) - reach), np.tanh(np.arctanh(r) + reach) - r

    (down, up), (their_down, their_up) = limit(first, ours), limit(second, theirs)
    rest = (1 - first**2) * (1 - second**2)
    shared = (both - first * second / 2) * (1 - first**2 - second**2 - both**2) + both**3
    shared = np.clip(shared / rest, -1, 1) if rest > 0 else 0.0  # correlation of the two correlations
    low = np.sqrt(max(0.0, down**2 + their_up**2 - 2 * shared * down * their_up))
    high = np.sqrt(max(0.0, up**2 + their_down**2 - 2 * shared * up * their_down))
    gain = first - second
    return Gain("rank correlation", *map(float, (first, second, gain, gain - low, gain + high)))


def _share_off(measure: str, ours: np.ndarray, theirs: np.ndarray) -> Gain:
    from scipy.special import stdtrit

    less = (theirs - ours) / (theirs.mean() or ours.mean() or 1.0)  # the last two: of a model without any error
    reach = stdtrit(len(less) - 1, (1 + LEVEL) / 2) * less.std(ddof=1) / np.sqrt(len(less))
    figures = ours.mean(), theirs.mean(), less.mean(), less.mean() - reach, less.mean() + reach
    return Gain(measure, *map(float, figures), "share it takes off")


def weigh_better(gains: Sequence[Gain]) -> float:
    """Above 0 where the first model is clearly better: the lower end of the clearer gain, or the other gain if that is less."""
    clearest = max(gains, key=lambda gain: gain.low)
    return min([clearest.low, *(gain.gain for gain in gains if gain is not clearest)])


def weigh_worse(gains: Sequence[Gain]) -> float:
    """Below a margin where the first model is clearly worse: the lowest upper end."""
    return min(gain.high for gain in gains)


def stack_probabilities(answers: Sequence[dict]) -> np.ndarray:
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


def resample_rows(strata: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Iterable[np.ndarray]:
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
