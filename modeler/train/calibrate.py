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


def guess_rows(pipeline, X, y: np.ndarray, cv, groups=None, calibrate: str = "none", within=None):
    """Answers to the rows that the folds of `cv` test, each by a model fitted on the rows that its fold trains on.

    Returns probabilities of shape (rows, classes) or values of shape (rows,), and the positions of the rows, in order. Folds
    in time do not test every row, which scikit-learn's cross_val_predict asks for. With `calibrate` each model is calibrated
    as by `fit_calibrated`, by the folds `within`.
    """
    from sklearn.base import clone, is_classifier
    from sklearn.model_selection import check_cv

    answers, tested = [], []
    for train, test in check_cv(cv).split(X, y, groups):
        if calibrate != "none":
            alike = None if groups is None else groups.iloc[train]
            fitted = fit_calibrated(pipeline, calibrate, X.iloc[train], y[train], within, alike)
        else:
            fitted = clone(pipeline).fit(X.iloc[train], y[train])
        ask = fitted.predict_proba if is_classifier(fitted) else fitted.predict
        answers.append(ask(X.iloc[test]))
        tested.append(test)
    order = np.argsort(np.concatenate(tested))
    return np.concatenate(answers)[order], np.concatenate(tested)[order]
