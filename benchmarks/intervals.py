"""How much the intervals cover on made tables, and how often the gate refuses them: python benchmarks/intervals.py 100

One line a target, model and number of rows: the mean coverage of intervals of 90 % on new rows and that of the fifth with the
greatest answers, the median width, all beside those of one radius for all and of CV+; and the share of tables whose intervals
the gate would refuse on a hold-out of a fifth of the rows.
"""

import sys

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeRegressor

from modeler.train.interval import least_coverage, measure_radii

LEVEL, NEW = 0.9, 2000
MODELS = {"ridge": Ridge(), "extra trees": ExtraTreesRegressor(30, min_samples_leaf=3, random_state=0)}
MODELS |= {"overfitted tree": DecisionTreeRegressor(random_state=0)}


def make_rows(target: str, size: int, rng) -> tuple[np.ndarray, np.ndarray]:
    X, error = rng.normal(size=(size, 5)), rng.normal(size=size)
    signal = 2 * X[:, 0] + X[:, 1] - np.abs(X[:, 2])
    y = {
        "normal": signal + error,
        "heteroscedastic": signal + error * (0.2 + np.exp(signal / 3)),
        "log-normal": np.exp(signal / 2 + error / 2),
        "count": rng.poisson(np.exp(signal / 3)).astype(float),
        "no signal": error,
    }[target]
    return X.astype(np.float32), y


def measure_table(target: str, model, rows: int, rng) -> list[float]:
    X, y = make_rows(target, rows, rng)
    X_new, y_new = make_rows(target, NEW, rng)
    guessed, lows, highs = np.empty(rows), np.empty((NEW, rows)), np.empty((NEW, rows))
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        fitted = clone(model).fit(X[train], y[train])
        guessed[test] = fitted.predict(X[test])
        errors, answers = np.abs(y[test] - guessed[test]), fitted.predict(X_new)[:, None]
        lows[:, test], highs[:, test] = answers - errors, answers + errors
    values, last = clone(model).fit(X, y).predict(X_new), int(np.ceil((rows + 1) * LEVEL)) - 1
    radius = np.interp(values, *measure_radii(y, guessed, LEVEL))
    same = np.sort(np.abs(y - guessed))[last]
    ways = [(values - radius, values + radius), (values - same, values + same)]
    ways += [(-np.sort(-lows, axis=1)[:, last], np.sort(highs, axis=1)[:, last])]
    top, found = np.argsort(values)[-NEW // 5 :], []
    for low, high in ways:
        held = (low <= y_new) & (y_new <= high)
        found += [held.mean(), held[top].mean(), np.median(high - low)]
    judged = rows // 4
    held = (np.abs(y_new - values) <= radius)[:judged].mean()
    return [*found, held < least_coverage(LEVEL, rows, judged)]


def main(tables: int) -> None:
    print(f"{'':40}{'curve':24}{'one radius':24}{'CV+':24}")
    for target in ("normal", "heteroscedastic", "log-normal", "count", "no signal"):
        for name, model in MODELS.items():
            for rows in (200, 1000):
                found = [measure_table(target, model, rows, np.random.default_rng(seed)) for seed in range(tables)]
                *shown, refused = np.mean(found, axis=0)
                figures = "".join(f"{figure:8.3f}" for figure in shown)
                print(f"{target:16}{name:16}{rows:6}  {figures}  refused {100 * refused:.1f} %", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
