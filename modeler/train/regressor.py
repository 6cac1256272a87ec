"""The regressor that model.skops holds where answers have an interval; the one type of ours that is loaded from there."""

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone


class IntervalRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """A regressor whose every value has an interval; `train.interval.measure_radii` says how wide it is and why.

    Parameters
    ----------
    regressor
        What answers the values: a Pipeline.
    knots, radii
        The curve of the radius over the value, or over its logarithm where that is `logarithmic`.
    """

    def __init__(self, regressor, knots, radii, logarithmic=False):
        self.regressor = regressor
        self.knots = knots
        self.radii = radii
        self.logarithmic = logarithmic

    def fit(self, X, y):
        """Fit the regressor; the radii are of its cross-validation and stay."""
        self.regressor_ = clone(self.regressor).fit(X, y)
        return self

    def predict(self, X) -> np.ndarray:
        """The values, shape (rows,)."""
        return self.regressor_.predict(X)

    def predict_interval(self, X) -> np.ndarray:
        """Value, low and high, shape (rows, 3)."""
        values = self.predict(X)
        with np.errstate(divide="ignore"):  # of a value too small for any number but 0
            answers = np.log(values) if self.logarithmic else values
        radius = np.interp(answers, self.knots, self.radii)
        ends = answers - radius, answers + radius
        low, high = map(np.exp, ends) if self.logarithmic else ends
        return np.column_stack([values, np.minimum(low, values), np.maximum(high, values)])
