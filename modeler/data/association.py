"""How much one column tells of the target by itself, whatever its shape, its skew and how rare a class is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from modeler.data.columns import feature_type
from modeler.data.dates import spread_dates

EDGES = [0.005, 0.02, 0.05, *np.arange(1, 10) / 10, 0.95, 0.98, 0.995]  # finer at the ends, where a rare class stands
LEVELS = 50  # groups of a column of categories; the rarest share one
FOLDS = 5
SHRINK = 10  # rows by which a group's mean is drawn to that of all rows
MOST_ROWS = 40_000  # rows to look at, shared evenly by the classes


def measure_associations(frame: pd.DataFrame, target: str, task: str) -> dict[str, float]:
    """How well each column alone answers rows that its answers were not made of, 0 to 1, by name.

    A column's groups answer with the mean target of the other four folds (the regressogram of J. W. Tukey, Bulletin of
    the International Statistical Institute 38, 1961, drawn to the mean of all rows as by D. Micci-Barreca, SIGKDD
    Explorations 3, 2001): a shallow tree whose splits are fixed. The answers to a class count by their Gini
    coefficient, 2 AUC - 1, which does not depend on how rare the class is (T. Fawcett, Pattern Recognition Letters 27,
    2006), with the mean over the classes, as the pipeline's roc_auc; those to a number by their correlation with its
    rank. A date counts as the best of its parts.
    """
    frame = draw_rows(frame, target, task)
    values, folds = code_target(frame[target], task), deal_folds(frame[target], task)
    spread, owners = spread_dates(frame.drop(columns=target))
    found = {}
    for name, owner in owners.items():
        association = associate(group_values(order_values(spread[name]), EDGES, LEVELS), values, folds, task)
        found[owner] = max(association, found.get(owner, 0.0))
    return found


def draw_rows(frame: pd.DataFrame, target: str, task: str, most: int = MOST_ROWS) -> pd.DataFrame:
    """At most so many rows, drawn at random; a class rarer than its even share keeps all its rows."""
    if len(frame) <= most:
        return frame
    order = np.random.default_rng(0).permutation(len(frame))
    if task == "classification":
        drawn = frame[target].iloc[order]
        order = order[drawn.groupby(drawn).cumcount() < max(1, most // drawn.nunique())]
    return frame.iloc[np.sort(order[:most])]


def code_target(target: pd.Series, task: str) -> np.ndarray:
    """The target as columns of numbers: its rank from 0 to 1, or an indicator of each class (of two classes, of
    one)."""
    if task == "regression":
        return target.rank(pct=True).to_numpy()[:, None]
    codes, classes = pd.factorize(target, sort=True)
    return np.eye(len(classes))[codes][:, len(classes) == 2 :]


def deal_folds(target: pd.Series, task: str) -> np.ndarray:
    """The fold of each row, at random but with an even share of each class, or of low and high numbers, in every
    fold."""
    order = np.random.default_rng(0).permutation(len(target))
    dealt, folds = target.iloc[order], np.empty(len(target), dtype=int)
    if task == "regression":
        folds[order] = dealt.rank(method="first").to_numpy(int)
    else:
        folds[order] = dealt.groupby(dealt).cumcount()
    return folds % FOLDS


def order_values(column: pd.Series) -> np.ndarray:
    """Numbers and dates as their rank from 0 to 1, NaN where missing; categories as whole numbers, the commonest 0, -1 where
    missing."""
    if feature_type(column) == "category":
        places = column.value_counts().rank(method="first", ascending=False) - 1
        return column.map(places).astype("float64").fillna(-1).to_numpy(int)
    ranks = column.rank() if column.dtype.kind == "M" else column.astype("float64").rank()
    return ((ranks - 0.5) / max(1, ranks.count())).to_numpy()


def group_values(order: np.ndarray, edges: Sequence[float], levels: int) -> np.ndarray:
    """The group of each row, by edges for ranks and one a category: the rarest share one, missing values have their
    own."""
    if order.dtype.kind == "i":
        groups = np.where(order < 0, levels, np.minimum(order, levels - 1))
    else:
        groups = np.where(np.isnan(order), len(edges) + 1, np.searchsorted(edges, order))
    return np.unique(groups, return_inverse=True)[1]


def associate(groups: np.ndarray, values: np.ndarray, folds: np.ndarray, task: str) -> float:
    """The association of groups with the columns of `values`; see `measure_associations`."""
    cells, size = groups * FOLDS + folds, (groups.max() + 1) * FOLDS
    counts = np.bincount(cells, minlength=size).reshape(-1, FOLDS)
    others = counts.sum(axis=1, keepdims=True) - counts
    found = []
    for value in values.T:
        sums = np.bincount(cells, value, size).reshape(-1, FOLDS)
        answers = (sums.sum(axis=1, keepdims=True) - sums + SHRINK * value.mean()) / (others + SHRINK)
        cells_of = answers.ravel(), sums.ravel(), counts.ravel()
        gain = _correlate(*cells_of, value.std()) if task == "regression" else measure_gini(*cells_of)
        found.append(max(0.0, gain))
    return float(np.mean(found))


def measure_gini(answers, hits, counts) -> float:
    """2 AUC - 1 of cells that hold `hits` of a class among `counts` rows and share an answer."""
    order = np.unique(answers.round(12), return_inverse=True)[1]
    hits, misses = np.bincount(order, hits), np.bincount(order, counts - hits)
    pairs = hits.sum() * misses.sum()
    return 2 * (hits * (np.cumsum(misses) - misses / 2)).sum() / pairs - 1 if pairs else 0.0


def _correlate(answers, sums, counts, deviation) -> float:
    """The correlation of the cells' answers with the values of their rows."""
    centred = answers - np.average(answers, weights=counts)
    spread = np.sqrt((counts * centred**2).sum() * counts.sum()) * deviation
    return (centred * sums).sum() / spread if spread > 1e-9 else 0.0
