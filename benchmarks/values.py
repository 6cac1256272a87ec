"""How often the gate's rule for values errs: python benchmarks/values.py [CASES [ROWS ...]]

Each case is a table of 200 to 5,000 rows with a normal, log-normal or count target, a fifth of it held out. The target is a
normal number z put to the target's scale; a feature shows z with noise. The noise is such that answers drawn from the feature
take 30 % off the mean absolute error of the median. The rule is that of `modeler.train.metrics.compare_values`. The figures
are the percentage of cases that pass.
"""

import sys

import numpy as np
import pandas as pd
from scipy.stats import norm, poisson
from sklearn.ensemble import RandomForestRegressor

from modeler.data.tables import Table
from modeler.gate.candidate import Candidate
from modeler.gate.champion import Comparison
from modeler.gate.checks import beat_dummy
from modeler.train.metrics import compare_values

SIZES = [200, 500, 1000, 5000]  # rows, of which a fifth is held out
OFF = 0.3  # share of the mean absolute error that a useful model takes off
COUNTS = poisson.cdf(np.arange(30), 3)  # of 0 to 29
SCALES = {
    "normal": lambda z: 100 + 15 * z,
    "log-normal": np.exp,
    "count": lambda z: np.searchsorted(COUNTS, norm.cdf(z)).astype(float),
}
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)  # of the mean over a normal number
CONTRACT = {"task": "regression", "target": {"name": "y", "classes": None}}


def main(cases: int, sizes: list[int]) -> None:
    for name in SCALES:
        for rows in sizes:
            print(f"\n{name}, {rows} rows, {cases} cases")
            for question, passed in simulate(name, rows, cases).items():
                print(f"  {question:58} {passed:5.1f}", flush=True)


def simulate(name: str, rows: int, cases: int, forest: bool = True) -> dict[str, float]:
    """The percentage of cases that pass, by question; without `forest`, useless spread comes from means of 10 values."""
    rng, told = np.random.default_rng([len(name), rows]), {}
    settings = measure_settings(SCALES[name])
    for _ in range(cases):
        known, truth, models = make_case(rng, SCALES[name], rows, settings, forest)
        champion = models["useful: median of a noisy feature"]
        for question, answers in models.items():
            if not question.startswith(("useless", "useful")):
                continue
            told.setdefault(f"better than a dummy, {question}", []).append(pass_dummy(answers, known, truth))
        for question, answers in models.items():
            comparison = Comparison(compare_values(answers, champion, truth, known), "", None)
            if question.startswith(("useless", "equal")):
                told.setdefault(f"not-worse, {question}", []).append(comparison.keeps("not-worse"))
            if question.startswith(("equal", "30 %")):
                told.setdefault(f"better, {question}", []).append(comparison.keeps("better"))
    return {question: 100 * float(np.mean(passed)) for question, passed in told.items()}


def pass_dummy(answers: np.ndarray, known: np.ndarray, truth: np.ndarray) -> bool:
    table = Table("made", pd.DataFrame({"y": np.concatenate([known, truth])}), "y")
    heldout = np.arange(len(table.frame)) >= len(known)
    given = [{"value": value} for value in answers.tolist()]
    return beat_dummy(Candidate("", CONTRACT, table, heldout, [], truth.tolist(), given)).passed


def measure_settings(scale) -> dict[str, float]:
    """How strong feature and noise must be, by bisection on 20,000 rows."""
    z, noise, other = np.random.default_rng(0).normal(size=(3, 20_000))
    truth = scale(z)
    dummy = np.abs(truth - np.median(truth)).mean()

    def off(answers: np.ndarray) -> float:
        return 1 - np.abs(truth - answers).mean() / dummy

    return {
        "median": bisect(lambda r: off(scale(r * show(z, noise, r))) - OFF),
        "twice": bisect(lambda r: off(scale(r * show(z, noise, r))) - (1 - (1 - OFF) ** 2)),
        "mean": bisect(lambda r: off(expect(scale, show(z, noise, r), r)) - OFF),
        "plus": (1 - OFF) * dummy / np.abs(noise).mean(),
        "times": bisect(lambda s: OFF - off(truth * np.exp(3 * s * noise))) * 3,
    }


def bisect(excess) -> float:
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return low


def show(z: np.ndarray, noise: np.ndarray, r: float) -> np.ndarray:
    """A feature whose correlation with z is r."""
    return r * z + np.sqrt(1 - r**2) * noise


def expect(scale, feature: np.ndarray, r: float) -> np.ndarray:
    """The mean of the target where the feature is known."""
    return scale(r * feature[:, None] + np.sqrt(1 - r**2) * NODES) @ (WEIGHTS / WEIGHTS.sum())


def make_case(rng, scale, rows: int, settings: dict, forest: bool) -> tuple[np.ndarray, np.ndarray, dict]:
    """Training values, held-out values, and the answers of each model to the held-out rows."""
    heldout = rng.random(rows) < 0.2
    z, noise, other = rng.normal(size=(3, rows))
    y, r, twice = scale(z), settings["median"], settings["twice"]
    known, truth = y[~heldout], y[heldout]
    near = 0.9 * noise + np.sqrt(1 - 0.9**2) * other
    answers = {
        "useful: median of a noisy feature": scale(r * show(z, noise, r)),
        "useful: mean of a noisy feature": expect(scale, show(z, noise, settings["mean"]), settings["mean"]),
        "useful: truth plus noise": y + settings["plus"] * noise,
        "useful: truth times noise": y * np.exp(settings["times"] * noise),
        "equal: a feature with noise of its own": scale(r * show(z, other, r)),
        "equal: a feature with nearly the same noise": scale(r * show(z, near, r)),
        "30 % off: a feature with noise of its own": scale(twice * show(z, other, twice)),
        "30 % off: a feature with nearly the same noise": scale(twice * show(z, near, twice)),
    }
    models = {question: values[heldout] for question, values in answers.items()}
    count, centre = len(truth), np.median(known)
    models |= {
        "useless: forest on noise": fit_noise(rng, known, count, forest),
        "useless: useful answers, shuffled": rng.permutation(models["useful: median of a noisy feature"]),
        "useless: about the median": centre + 0.02 * known.std() * rng.normal(size=count),
        "useless: the median": np.full(count, centre),
        "useless: the mean": np.full(count, known.mean()),
    }
    return known, truth, models


def fit_noise(rng, known: np.ndarray, count: int, forest: bool) -> np.ndarray:
    if not forest:
        return rng.choice(known, size=(count, 10)).mean(axis=1)
    model = RandomForestRegressor(10, min_samples_leaf=3, random_state=0)
    return model.fit(rng.normal(size=(len(known), 3)), known).predict(rng.normal(size=(count, 3)))


if __name__ == "__main__":
    cases, *sizes = map(int, sys.argv[1:] or [200])
    main(cases, sizes or SIZES)
