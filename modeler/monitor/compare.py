"""The rows that were asked against the training rows, and the answers against those to the hold-out: what drifted, and since when."""

from collections.abc import Sequence

import numpy as np

from modeler import ModelerError
from modeler.data.drift import HALF, LEAST_PSI, compare_counts, count_values, list_counts, see_column
from modeler.model.contract import used_features
from modeler.model.graph import MISSING
from modeler.model.stored import CONTRACT, StoredModel
from modeler.monitor.rows import Rows

FEWEST_ROWS = 100  # below, even a shift by a standard deviation is not found reliably (benchmarks/drift.py)
LONG = np.timedelta64(3, "D")  # from here on rows are counted by day, below by hour
STEADY, DRIFTED, TOO_FEW = "steady", "drifted", "too few"


def read_reference(model: StoredModel) -> dict:
    """What training looked like; a ModelerError says how to get that for a model of before."""
    if reference := model.read_reference():
        return reference
    raise ModelerError(
        f"{model.tag} has no reference.json, so nothing can be compared: an older version of this project made it; retrain "
        "on the same data to get one"
    )


def pair_counts(rows: Rows, reference: dict) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Counts and expected counts of each column and of each answer, by ("columns" or "answers", name)."""
    pairs = {}
    for part, columns, values in _list_parts(rows, reference):
        pairs |= {
            (part, column["name"]): (count_values(seen, column), list_counts(column))
            for column, seen in zip(columns, values)
        }
    return pairs


def compare_rows(rows: Rows, model: StoredModel) -> dict[str, list[dict]]:
    """`columns` and `answers` of drift.json, the worst first.

    `psi` and `p_value` are those of `compare_counts`, over columns and answers together. `since` is the day or hour from which on a
    drifted one has drifted, `missing` the share of missing values, `outside` the share outside the training range or of
    categories that training never saw; answers have no such range.
    """
    reference = read_reference(model)
    features = {feature["name"]: feature for feature in used_features(model.read(CONTRACT))}
    drifts = compare_counts(pair_counts(rows, reference)) if len(rows) else {}
    found = {"columns": [], "answers": []}
    for part, columns, values in _list_parts(rows, reference):
        for column, seen in zip(columns, values):
            drift = drifts.get((part, column["name"]))
            is_column = part == "columns" and len(rows)
            found[part].append({
                "name": column["name"],
                "psi": round(drift.psi, 6) if drift else 0.0,
                "p_value": drift.p_value if drift else 1.0,
                "drifted": bool(drift and drift.drifted and len(rows) >= FEWEST_ROWS),
                "since": None,
                "missing": float(find_missing(seen).mean()) if is_column else 0.0,
                "outside": float(find_outside(seen, features[column["name"]]).mean()) if is_column else 0.0,
            })  # fmt: skip
            if found[part][-1]["drifted"] and rows.times is not None:
                found[part][-1]["since"] = find_start(*count_periods(rows.times, seen, column), list_counts(column))
    return {part: sorted(drifted, key=lambda one: (-one["psi"], one["p_value"])) for part, drifted in found.items()}


def find_missing(values: np.ndarray) -> np.ndarray:
    """Which values are missing."""
    return values == MISSING if values.dtype == object else np.isnan(values)


def find_outside(values: np.ndarray, feature: dict) -> np.ndarray:
    """Which values lie outside the range of training, or are categories that it never saw; a missing value never does."""
    if feature["type"] == "category":
        known = {*feature["categories"], MISSING}
        return np.array([value not in known for value in values], dtype=bool)
    if feature["type"] == "boolean":
        return np.zeros(len(values), dtype=bool)
    low, high = see_column({feature["name"]: [feature["min"], feature["max"]]}, feature)
    return (values < low) | (values > high)


def cut_periods(times: np.ndarray) -> np.ndarray:
    """The day of each moment, or the hour where all lie within three days."""
    unit = "D" if len(times) and times.max() - times.min() >= LONG else "h"
    return times.astype(f"datetime64[{unit}]")


def count_periods(times: np.ndarray, values: np.ndarray, column: dict) -> tuple[np.ndarray, np.ndarray]:
    """The days or hours that have rows, and for each the counts of `count_values`, shape (periods, bins)."""
    periods, codes = np.unique(cut_periods(times), return_inverse=True)
    return periods, np.array([count_values(values[codes == code], column) for code in range(len(periods))])


def find_start(periods: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> str:
    """The period from which on counts are not as expected, as a text in ISO 8601.

    It makes the counts likeliest, if those before have the expected shares and those from it on have shares of their own (the
    maximum-likelihood estimate of a change point; D. Hinkley, Biometrika 57, 1970).
    """
    after = counts[::-1].cumsum(axis=0)[::-1] + HALF
    shares = after / after.sum(axis=1, keepdims=True)
    before = (expected + HALF) / (expected + HALF).sum()
    return str(periods[np.argmax(((after - HALF) * np.log(shares / before)).sum(axis=1))])


def judge_drift(rows: Rows, found: dict[str, list[dict]], metrics: dict[str, dict] | None) -> tuple[str, list[str]]:
    """The verdict, and a sentence for each reason.

    `drifted`: a column or an answer drifted, or a metric is clearly worse than on the hold-out. `too few`: fewer than
    `FEWEST_ROWS` rows, of which none can say so.
    """
    reasons = [
        f"{what} {one['name']!r} drifted: PSI {one['psi']:.2f}, from {LEAST_PSI} on it counts{_tell_start(one['since'])}"
        for what, part in (("column", "columns"), ("the answers of", "answers"))
        for one in found[part]
        if one["drifted"]
    ]
    reasons += [
        f"{name} is {one['value']:.4g} (95 % interval {one['low']:.4g} to {one['high']:.4g}), clearly worse than "
        f"{one['held_out']:.4g} on the hold-out"
        for name, one in (metrics or {}).items()
        if one["worse"]
    ]
    if reasons:
        return DRIFTED, reasons
    if len(rows) < FEWEST_ROWS:
        return TOO_FEW, [f"{len(rows)} rows are too few to say; from {FEWEST_ROWS} rows on they are compared"]
    right = ", and no score is clearly worse than on the hold-out" if metrics else ""
    return STEADY, [f"no column and no answer of {len(rows):,} rows drifted{right}"]


def _tell_start(since: str | None) -> str:
    return f"; since {since}" if since else ""


def _list_parts(rows: Rows, reference: dict) -> list[tuple[str, Sequence[dict], Sequence[np.ndarray]]]:
    """Columns and answers of the reference, each with the values of the rows."""
    columns = [column for column in reference["columns"] if column["name"] in rows.values]
    outputs = rows.outputs.astype(np.float32).T[: len(reference["answers"])]
    return [
        ("columns", columns, [rows.values[column["name"]] for column in columns]),
        ("answers", reference["answers"], outputs),
    ]
