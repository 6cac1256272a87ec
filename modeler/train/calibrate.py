"""Probabilities at their word: a classifier within scikit-learn's CalibratedClassifierCV, cross-fitted."""

import numpy as np

from modeler.inside import flatten_steps


def fit_calibrated(pipeline, method: str, X, y: np.ndarray, cv, groups=None):
    """A copy of a Pipeline whose classifier is calibrated by `method`, "sigmoid" or "isotonic", fitted to these rows.

    The map from the classifier's scores to probabilities is fitted to the scores that it gives in the folds of `cv` to rows
    it has not seen; rows of one group stay in one fold. The classifier that answers is then fitted to all rows: one model
    behind one map. A model and a map for each fold (`ensemble=True`) would be as sound and cost as many times more to serve.

    sigmoid: J. Platt, Probabilistic outputs for support vector machines, 1999. isotonic: B. Zadrozny and C. Elkan, KDD 2002.
    """
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import VotingClassifier

    calibrated, model = clone(pipeline), clone(pipeline[-1])
    if method == "isotonic" or not hasattr(model, "decision_function"):  # then its probabilities are the scores, so a
        model = VotingClassifier([("model", model)], voting="soft", flatten_transform=False)  # float32 is exact enough
    folds = list(cv.split(X, y, groups))
    step = CalibratedClassifierCV(model, method=method, cv=folds, ensemble=False)
    calibrated.steps[-1] = (calibrated.steps[-1][0], step)
    calibrated.fit(X, y)
    step.set_params(cv=None)  # the numbers of all rows, which model.skops need not hold
    flatten_steps(step)
    return calibrated


def guess_calibrated(pipeline, method: str, X, y: np.ndarray, cv, groups=None) -> np.ndarray:
    """The probabilities, shape (rows, classes), that models calibrated on the other folds of `cv` give to each row.

    A row that stands in no fold has NaN.
    """
    guessed = np.full((len(X), len(np.unique(y))), np.nan)
    for train, test in cv.split(X, y, groups):
        within = None if groups is None else groups.iloc[train]
        fitted = fit_calibrated(pipeline, method, X.iloc[train], y[train], cv, within)
        guessed[test] = fitted.predict_proba(X.iloc[test])
    return guessed
