"""What came true: labels that find their rows, and the scores of what was really answered beside those of the hold-out."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from modeler import ModelerError, list_names
from modeler.data.dialect import SEPARATORS, CsvFormat
from modeler.data.reading import explain_parquet, find_format
from modeler.gate.champion import MARGIN
from modeler.model.contract import class_key
from modeler.model.stored import CONTRACT, StoredModel
from modeler.monitor.rows import Rows
from modeler.train.confidence import measure_intervals
from modeler.train.metrics import LEVEL, score_answers

FEWEST_LABELS = 30  # below, no score is given
LOWER_IS_BETTER = ("log_loss", "mae", "rmse", "interval_width")


def read_labels(path: Path, rows: Rows, model: StoredModel) -> tuple[np.ndarray, list, list[str]]:
    """The positions of the rows that have a label, what came true of each, and notes.

    The file has the target's column and those that name a row: `request_id` and `row` of the prediction log, or any that a table
    of rows has too. A ModelerError: no such column, a row that is labelled twice and differently, a class that the
    model does not know, or labels that find no row.
    """
    target, frame = model.read(CONTRACT)["target"], _read_texts(Path(path))
    if target["name"] not in frame:
        raise ModelerError(f"{path} lacks {target['name']!r}, the column of what came true; it has {list_names(frame)}")
    names = [name for name in rows.keys if name in frame and name != target["name"]]
    if not names or names == ["row"]:
        raise ModelerError(
            f"{path} has no column that names a row; give one of {list_names(rows.keys) or 'the columns of the rows'} beside "
            f"{target['name']!r}"
        )
    truth = frame[target["name"]].dropna()
    labels = pd.DataFrame({"truth": truth, "key": _join_texts(frame.loc[truth.index, names])}).drop_duplicates()
    if (twice := labels.loc[labels["key"].duplicated(), "key"]).size:
        raise ModelerError(f"{path} has two labels for {' and '.join(names)} {twice.iloc[0]!r}; keep the right one")
    asked = pd.Series(_join_texts(rows.keys[names]).to_numpy()).drop_duplicates(keep="last")  # of a request sent again
    positions = pd.Series(asked.index, index=asked.to_numpy()).reindex(labels["key"])
    is_known = positions.notna().to_numpy()
    if not is_known.any():
        raise ModelerError(
            f"none of the {len(labels)} labels of {path} finds a row by {' and '.join(names)}, such as {labels['key'].iloc[0]!r}; "
            "give the labels of these rows"
        )
    if "row" in rows.keys and "row" not in names and (several := rows.keys["row"].isin(range(1, len(rows) + 1))).any():
        wanted = labels["key"].isin(rows.keys.loc[several, "request_id"])
        if wanted.any():
            raise ModelerError(
                f"{path} labels request {labels['key'][wanted].iloc[0]!r}, which has several rows; give the column 'row' too"
            )
    notes = [] if is_known.all() else [f"{(~is_known).sum():,} of {len(labels):,} labels find no row"]
    found = labels["truth"].to_numpy()[is_known]
    return positions.to_numpy()[is_known].astype(int), read_truth(found, target, path), notes


def read_truth(values: Sequence, target: dict, told: object) -> list:
    """What came true, as classes or as numbers; a ModelerError names a value that is none."""
    if not target["classes"]:
        numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)
        if (lost := np.flatnonzero(~np.isfinite(numbers))).size:
            raise ModelerError(
                f"{told} has {values[lost[0]]!r} as {target['name']!r}, which is no number; mend or empty it"
            )
        return numbers.tolist()
    classes = {class_key(label): label for label in target["classes"]}
    classes |= {key.capitalize(): label for key, label in classes.items() if isinstance(label, bool)}
    classes |= {f"{label:.1f}": label for label in target["classes"] if type(label) is int}  # of a column with gaps
    texts = [class_key(value) if not isinstance(value, np.generic) else class_key(value.item()) for value in values]
    if unknown := sorted(set(texts) - classes.keys()):
        raise ModelerError(
            f"{told} has {unknown[0]!r} as {target['name']!r}, which is none of the classes {list_names(target['classes'])}; "
            "mend it, or retrain on data that have it"
        )
    return [classes[text] for text in texts]


def score_labels(rows: Rows, positions: np.ndarray, truth: list, model: StoredModel) -> dict[str, dict] | None:
    """`metrics` of drift.json: of each metric its `value` with the 95 % interval from `low` to `high`, and `held_out`.

    None of fewer than `FEWEST_LABELS` labels. `worse` is true where the value is lower than on the hold-out by more than `MARGIN`,
    and not by chance: at 95 % for all metrics together (O. Dunn, Journal of the American Statistical Association 56, 1961), by
    the interval of a difference that those of both make (G. Zou, Psychological Methods 12, 2007).
    """
    if len(truth) < FEWEST_LABELS:
        return None
    target = model.read(CONTRACT)["target"]
    answers = rows.list_answers(positions, target)
    values, intervals = score_answers(answers, truth, target), measure_intervals(answers, truth, target)
    held_out, certain = model.read("metrics.json"), model.read("verdict.json").get("intervals") or {}
    scored = [name for name, value in values.items() if value is not None and held_out.get(name) is not None]
    wider = _widen(max(1, len([name for name in scored if name in intervals])))
    found = {}
    for name in scored:
        low, high = intervals.get(name, (None, None))
        then = held_out[name], *certain.get(name, (held_out[name], held_out[name]))
        worse = low is not None and _is_worse(name, (values[name], low, high), then, wider)
        found[name] = {"value": values[name], "low": low, "high": high, "held_out": held_out[name], "worse": worse}
    return found


def _is_worse(name: str, now: tuple, then: tuple, wider: float) -> bool:
    sign = -1 if name in LOWER_IS_BETTER else 1
    (value, *ends), (before, *ends_before) = now, then
    up = ends[1] - value if sign > 0 else value - ends[0]
    down = before - ends_before[0] if sign > 0 else ends_before[1] - before
    margin = MARGIN if sign > 0 else MARGIN * before
    return bool(sign * (value - before) + wider * math.hypot(up, down) < -margin)


def _widen(metrics: int) -> float:
    """By how much an interval is wider that holds for so many metrics together."""
    from scipy.special import ndtri

    tail = (1 - LEVEL) / 2
    return float(ndtri(tail / metrics) / ndtri(tail))


def _read_texts(path: Path) -> pd.DataFrame:
    """A file's columns as texts, so that an id such as 007 stays one; None where a value is missing."""
    if path.suffix.lower() == ".parquet":
        with explain_parquet(path):
            frame = pd.read_parquet(path)
        return frame.astype(object).where(frame.notna(), None).map(_write, na_action="ignore")
    if path.suffix.lower() != ".csv":
        raise ModelerError(f"{path} ends in {path.suffix or 'nothing'}; labels stand in a .csv or .parquet file")
    encoding, _, separator = find_format(path, CsvFormat())
    try:
        frame = pd.read_csv(path, sep=SEPARATORS[separator], encoding=encoding, dtype=str)
    except ValueError as error:  # pandas' errors are ValueErrors
        raise ModelerError(f"{path} cannot be read as .csv: {error}; mend the file") from None
    return frame.astype(object).where(frame.notna(), None)


def _write(value: object) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, str) or not isinstance(value, float | bool | int) else class_key(value)


def _join_texts(frame: pd.DataFrame) -> pd.Series:
    """The keys of rows, each as one text."""
    texts = frame.astype(object).map(_write, na_action="ignore").fillna("")
    first, *others = (texts[name] for name in texts)
    return first.str.cat(others, sep=" ") if others else first
