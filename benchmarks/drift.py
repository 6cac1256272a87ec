"""How often a report is right, beside Evidently's default preset on the same rows: python benchmarks/drift.py [REPEATS]

Half of the columns are normal, a quarter log-normal, and a quarter have eight categories. The first tables do not drift, so a report
is right if it says so of every column. In the last ones, one of 30 columns, a normal one, is shifted by half a standard
deviation, and a report is right if it names that column. The reference are so many training rows. Of a million rows, 500 columns
are not drawn one by one: their counts are. Evidently's preset calls data drifted where half of the columns are, so beside that stands
how often it names no column, or the one that is shifted. It gets at most 20 repeats, since it takes seconds for each. Evidently does not run with
pandas 3, so it needs an environment of its own: pip install . scipy scikit-learn "evidently==0.7.23" "pandas<3"; without it, its
columns are empty.
"""

import os
import sys
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd

from modeler.data.drift import compare_counts, count_values, describe_column, list_counts

STEADY = [  # columns, rows, training rows
    (5, 200, 1000), (30, 200, 1000), (30, 500, 456), (30, 10_000, 5000), (500, 200, 1000), (500, 10_000, 5000),
    (5, 1_000_000, 5000), (500, 1_000_000, 5000),
]  # fmt: skip
SHIFTED = [(30, 500, 456), (30, 500, 1000), (30, 500, 5000), (30, 10_000, 5000)]
SHIFT, SHARES = 0.5, np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005])
MOST_COLUMNS, MOST_REPEATS = 30, 20  # of Evidently's
HAS_EVIDENTLY = find_spec("evidently") is not None


def main(repeats: int) -> None:
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")
    print(f"{repeats} repeats; right of ours, Evidently names the right columns, its verdict is right; seconds a report of each")
    for shift, tables in ((0.0, STEADY), (SHIFT, SHIFTED)):
        print(f"\n{'no drift' if not shift else 'one column shifted'}\ncolumns       rows  training   ours  columns  verdict      s      s")
        for columns, rows, trained in tables:
            show(columns, rows, trained, measure(columns, rows, trained, shift, repeats))


def show(columns: int, rows: int, trained: int, figures: dict) -> None:
    """Print a line."""
    shares = [f"{np.mean(figures[name]):6.0%}" if figures[name] else "     -" for name in ("ours", "columns", "verdict")]
    seconds = [f"{np.median(figures[name]):6.2f}" if figures[name] else "     -" for name in ("our s", "their s")]
    print(f"{columns:7} {rows:10,} {trained:9,} {shares[0]}  {shares[1]}   {shares[2]}  {' '.join(seconds)}", flush=True)


def measure(columns: int, rows: int, trained: int, shift: float, repeats: int) -> dict[str, list]:
    """Which reports were right, and how long they took."""
    figures = {name: [] for name in ("ours", "columns", "verdict", "our s", "their s")}
    for number in range(repeats):
        rng = np.random.default_rng(number)
        reference = draw(rng, columns, trained)
        given = draw(rng, columns, rows, shift) if columns * rows <= 2e7 else None
        started = time.perf_counter()
        described = [{"type": kind_of(values), **describe_column(values, kind_of(values))} for values in reference]
        counts = [count_values(*pair) for pair in zip(given, described)] if given else draw_counts(rng, described, columns, rows)
        drifted = [drift.drifted for drift in compare_counts(dict(enumerate(zip(counts, map(list_counts, described))))).values()]
        figures["our s"].append(time.perf_counter() - started)
        figures["ours"].append(drifted[0] if shift else not any(drifted))
        if HAS_EVIDENTLY and given and columns <= MOST_COLUMNS and number < MOST_REPEATS:
            started = time.perf_counter()
            names, share = ask_evidently(reference, given)
            figures["their s"].append(time.perf_counter() - started)
            figures["columns"].append("0" in names if shift else not names)
            figures["verdict"].append((share >= 0.5) == bool(shift))
    return figures


def draw(rng: np.random.Generator, columns: int, rows: int, shift: float = 0.0) -> list[np.ndarray]:
    """Columns of so many rows; the first is shifted."""
    drawn = []
    for number in range(columns):
        if number % 4 == 3:
            drawn.append(np.array(list("abcdefgh"), dtype=object)[rng.choice(8, rows, p=SHARES)])
        else:
            values = rng.normal(shift if number == 0 else 0, 1, rows)
            drawn.append((np.exp(values) if number % 4 == 2 else values).astype(np.float32))
    return drawn


def draw_counts(rng: np.random.Generator, described: list[dict], columns: int, rows: int) -> list[np.ndarray]:
    """The counts of so many rows, by the chance of each bin."""
    from scipy.stats import norm

    drawn = []
    for number, column in enumerate(described):
        if number % 4 == 3:
            chances = [SHARES["abcdefgh".index(name)] for name in column["values"]]
            chances = [*chances, max(0.0, 1 - sum(chances)), 0]
        else:
            edges = np.array(column["edges"])
            ends = norm.cdf([-np.inf, *(np.log(edges) if number % 4 == 2 else edges), np.inf])
            chances = [*np.diff(ends), 0]
        drawn.append(rng.multinomial(rows, np.array(chances) / np.sum(chances)))
    return drawn


def kind_of(values: np.ndarray) -> str:
    return "category" if values.dtype == object else "number"


def ask_evidently(reference: list[np.ndarray], given: list[np.ndarray]) -> tuple[set[str], float]:
    """The columns that its default preset calls drifted, and their share."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    then, now = (pd.DataFrame({str(number): values for number, values in enumerate(part)}) for part in (reference, given))
    share, *columns = Report([DataDriftPreset()]).run(now, then).dict()["metrics"]
    drifted = set()
    for column in columns:
        told, is_chance = column["config"], "p_value" in column["config"]["method"]
        if column["value"] < told["threshold"] if is_chance else column["value"] >= told["threshold"]:
            drifted.add(told["column"])
    return drifted, share["value"]["share"]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
