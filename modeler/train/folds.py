"""The folds of a cross-validation that follows time."""

import numpy as np
import pandas as pd

from modeler.data.rows import TRAINED

FOLDS, FEWEST = 5, 2  # folds at most; folds, and rows to test, at least


def deal_folds(times: pd.Series, labels: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to five folds that follow time, each as the positions of the rows to train on and to test; none or two at least.

    Each fold tests a span of time and trains on what lies before. The spans begin where those of scikit-learn's
    TimeSeriesSplit do, but rows of one time stay together, and so do groups, as `times` are those of `order_rows`.
    Rows without a time are trained on and never tested. A fold is left out if it has fewer than `TRAINED` rows of a
    class of `labels` to train on, or none to test.
    """
    from sklearn.model_selection import TimeSeriesSplit  # late: scikit-learn takes a second to import

    ranks = times.rank(method="dense").to_numpy()
    known = np.sort(ranks[~np.isnan(ranks)])
    if len(known) <= FOLDS:
        return []
    starts = np.unique([known[tested[0]] for _, tested in TimeSeriesSplit(FOLDS).split(known)])
    folds = []
    for start, end in zip(starts, [*starts[1:], np.inf]):
        train, tested = np.flatnonzero(~(ranks >= start)), np.flatnonzero((ranks >= start) & (ranks < end))
        if _has_every_class(train, labels, TRAINED) and _has_every_class(tested, labels, 1) and len(tested) >= FEWEST:
            folds.append((train, tested))
    return folds if len(folds) >= FEWEST else []


def _has_every_class(rows: np.ndarray, labels: np.ndarray | None, least: int) -> bool:
    if labels is None:
        return len(rows) >= least
    return min((labels[rows] == label).sum() for label in np.unique(labels)) >= least
