"""Columns in counts: their bins, the rows in each, and how far two such counts are apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modeler.model.contract import class_key
from modeler.model.graph import MISSING, encode_columns

BINS, NAMED = 20, 50  # at most: bins of numbers, categories by name
FEWEST = 5  # rows of a bin, and of a category that is named, so that no single row can be read out
SMALL = 5  # expected rows below which bins are pooled in a chi-square test (W. Cochran, Biometrics 10, 1954)
LEAST_PSI, BY_CHANCE = 0.1, 0.01  # from which a column has drifted: its index, and the share of false findings
OTHER = "(other)"  # categories that are not named
HALF = 0.5  # added to every bin: one that is empty on one side has no logarithm


def see_column(columns: Mapping[str, Sequence], feature: dict) -> np.ndarray:
    """A raw column of used feature as the model sees it, shape (rows,).

    float32 with NaN for a missing value, dates in days since 1970, booleans 0 and 1; or categories as texts, "(missing)".
    `columns` is a table's frame, or holds values as callers send them.
    """
    return next(iter(encode_columns(columns, {"features": [feature]}).values()))[:, 0]


def describe_column(values: np.ndarray, kind: str) -> dict:
    """Bins of a column's `values`, as `see_column` gives them, and the rows in each, as reference.json has them.

    Numbers and dates: `counts` in at most `BINS` quantile bins of at least `FEWEST` rows, if there are that many, and the
    inner `edges`; a value at an edge is in the bin below. Edges are rounded to some hundredths of the distance to the next.
    Booleans and categories: `values`, of categories the `NAMED` commonest that `FEWEST` rows have; the last of the `counts`
    of a category is of the rest. `missing` is a count too.
    """
    missing = int((np.isnan(values) if kind != "category" else values == MISSING).sum())
    if kind == "boolean":
        return {"missing": missing, "values": [False, True], "counts": [int((values == flag).sum()) for flag in (0, 1)]}
    if kind == "category":
        counts = pd.Series(values[values != MISSING], dtype=object).value_counts()
        named = sorted(((-count, name) for name, count in counts.items() if count >= FEWEST))[:NAMED]
        counted = [-count for count, _ in named]
        rest = len(values) - missing - sum(counted)
        return {"missing": missing, "values": [name for _, name in named], "counts": [*counted, rest]}
    return {"missing": missing, **_cut_numbers(np.sort(values[~np.isnan(values)]))}


def count_values(values: np.ndarray, column: dict) -> np.ndarray:
    """How many `values`, as `see_column` gives them, are in each bin of a column of reference.json; last, how many are missing."""
    if "edges" in column:
        missing = np.isnan(values)
        bins = np.searchsorted(np.array(column["edges"], dtype=np.float32), values[~missing])
        return np.append(np.bincount(bins, minlength=len(column["counts"])), missing.sum())
    if column["type"] == "boolean":
        return np.array([(values == 0).sum(), (values == 1).sum(), np.isnan(values).sum()])
    counts = pd.Series(values, dtype=object).value_counts()
    counted = counts.reindex([*column["values"], MISSING], fill_value=0).to_numpy()
    return np.array([*counted[:-1], len(values) - counted.sum(), counted[-1]])


def list_counts(column: dict) -> np.ndarray:
    """The counts of a column of reference.json as `count_values` orders them."""
    return np.array([*column["counts"], column["missing"]])


def name_bins(column: dict) -> list[str]:
    """What stands in each bin of a column of reference.json, as `count_values` orders them."""
    if "values" in column:
        rest = [OTHER] if column["type"] == "category" else []
        return [*(class_key(value) for value in column["values"]), *rest, MISSING]
    write = (lambda day: str(np.datetime64(int(day), "D"))) if column["type"] == "date" else "{:.4g}".format
    texts = [write(edge) for edge in column["edges"]]
    return [*(f"≤ {text}" for text in texts), f"> {texts[-1]}" if texts else "any", MISSING]


def measure_psi(counts: np.ndarray, expected: np.ndarray) -> float:
    """Population stability index of two counts over the same bins, without what chance makes of it; never below 0.

    The sum of (p - q) ln(p / q) over the bins' shares is the symmetric divergence of H. Jeffreys (1946). Without drift its
    expectation is (B - 1)(1/n + 1/m) for B bins that hold rows, n and m rows (B. Yurdakul, Statistical Properties of
    Population Stability Index, 2018), which is taken off.
    """
    held = (counts + expected) > 0
    n, m, bins = counts.sum(), expected.sum(), held.sum()
    if not n or not m:
        return 0.0
    p, q = ((part[held] + HALF) / (part.sum() + HALF * bins) for part in (counts, expected))
    return float(max(0.0, ((p - q) * np.log(p / q)).sum() - (bins - 1) * (1 / n + 1 / m)))


def measure_p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """p of the chi-square test that two counts over the same bins are samples of one distribution (K. Pearson, 1911).

    Neighbouring bins are pooled until the smaller sample has `SMALL` rows to expect there; by `expected` alone, since pooling by
    the rows that came would make of chance a finding. 1 where less than two bins remain.
    """
    from scipy.stats import chi2_contingency

    if not counts.sum() or not expected.sum():
        return 1.0
    starts = _pool_bins(expected * min(counts.sum(), expected.sum()) / expected.sum())
    table = np.add.reduceat(np.stack([counts, expected]), starts, axis=1)
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0


def _pool_bins(expected: np.ndarray) -> list[int]:
    """Where pools of neighbouring bins begin, of `SMALL` expected rows or more each; what is left belongs to the last."""
    starts, held = [0], 0.0
    for place, rows in enumerate(expected.tolist()):
        held += rows
        if held >= SMALL:
            starts.append(place + 1)
            held = 0.0
    return starts[:-1] or [0]


@dataclass(frozen=True)
class Drift:
    """How far the counts of a column are apart from those expected: its index, and the chance that this is by chance.

    `p_value` is corrected for the number of columns that were compared.
    """

    psi: float
    p_value: float

    @property
    def drifted(self) -> bool:
        return self.psi >= LEAST_PSI and self.p_value <= BY_CHANCE


def compare_counts(counted: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Drift]:
    """The drift of each column, of counts and expected counts by name.

    Of names that did not drift, at most `BY_CHANCE` of those that have are expected (Y. Benjamini and Y. Hochberg, Journal of the
    Royal Statistical Society B 57, 1995).
    """
    from scipy.stats import false_discovery_control

    if not counted:
        return {}
    chances = false_discovery_control([measure_p_value(*pair) for pair in counted.values()]).tolist()
    return {name: Drift(measure_psi(*pair), p_value) for (name, pair), p_value in zip(counted.items(), chances)}


def list_drifted(counted: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """The names whose counts are apart by `LEAST_PSI` or more, and not by chance, with their index, the greatest first."""
    drifted = [(name, drift.psi) for name, drift in compare_counts(counted).items() if drift.drifted]
    return dict(sorted(drifted, key=lambda pair: -pair[1]))


def _cut_numbers(ordered: np.ndarray) -> dict:
    """Inner edges and counts of numbers in ascending order."""
    rows = len(ordered)
    bins = max(1, min(BINS, rows // FEWEST))
    quantiles = ordered[-(-np.arange(1, bins) * rows // bins) - 1].astype(float)
    edges = _round_up(np.unique(quantiles), float(np.ptp(ordered)) if rows else 0.0)
    counts = np.diff(np.searchsorted(ordered, np.array([-np.inf, *edges, np.inf], dtype=np.float32), "right"))
    counts = counts.tolist()
    while len(counts) > 1 and min(counts) < FEWEST:
        least = counts.index(min(counts))
        other = min((place for place in (least - 1, least + 1) if 0 <= place < len(counts)), key=counts.__getitem__)
        first = min(least, other)
        counts[first : first + 2] = [counts[least] + counts[other]]
        del edges[first]
    return {"edges": edges, "counts": counts}


def _round_up(edges: np.ndarray, spread: float) -> list[float]:
    """Edges rounded up, by less than a tenth of the distance to the next one: a value that many rows have stays below its edge."""
    gaps = np.diff(edges, prepend=-np.inf, append=np.inf)
    rounded = []
    for edge, gap in zip(edges.tolist(), np.minimum(np.minimum(gaps[:-1], gaps[1:]), spread or 1.0).tolist()):
        digits = 1 - int(math.floor(math.log10(gap)))
        rounded.append(round(math.ceil(round(edge * 10.0**digits, 6)) / 10.0**digits, max(digits, 0)))
    return rounded
