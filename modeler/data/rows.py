"""Rows: split into training and hold-out, fingerprinted, and turned into what callers post."""

import hashlib
import json

import numpy as np
import pandas as pd

from modeler import ModelerError
from modeler.data.dates import has_time
from modeler.data.tables import Table
from modeler.data.timeline import check_column, split_by_time
from modeler.model.dates import write_date

TRAINED = 5  # training rows of every class


def split_rows(
    frame: pd.DataFrame, holdout: float, split_by: str | None = "", split_time: str | None = ""
) -> np.ndarray:
    """Deal rows to the hold-out by a hash of their content; return one boolean per row, True for held out.

    With `split_time`, a column, the latest rows are held out instead; see `find_boundary`.

    New rows never move an old one, as long as the columns keep their names and kinds: the first text among numbers deals
    the table anew. The hash includes the occurrence number of equal rows. With `split_by` it covers that column alone, so
    rows that share its value stay together. The share held out is `holdout` in expectation.
    """
    if split_time:
        return split_by_time(frame, holdout, split_by, split_time)
    if split_by:
        check_column(frame, "--split-by", split_by)
        frame = frame[[split_by]]
    keys = pd.util.hash_pandas_object(_hashable(frame), index=False)
    occurrence = np.zeros(len(keys), dtype="uint64") if split_by else keys.groupby(keys).cumcount().to_numpy("uint64")
    pairs = np.column_stack([keys.to_numpy("<u8"), occurrence.astype("<u8")]).tobytes()
    dealt = (hashlib.blake2b(pairs[i : i + 16], digest_size=8).digest() for i in range(0, len(pairs), 16))
    return np.frombuffer(b"".join(dealt), dtype="<u8") < np.uint64(holdout * 2**64)


def list_dealing(told: dict) -> tuple[float, str, str]:
    """What deals the rows, of eda.ipynb's parameters and in the order of `split_rows`; models of before have no time."""
    return told["holdout"], told["split_by"], told.get("split_time", "")


def check_split(table: Table, heldout: np.ndarray, split_time: str = "") -> None:
    """Raise a ModelerError if the table, or a class of it, has too few rows to train on or to judge.

    Every class needs `TRAINED` training rows, one for each fold of the cross-validation in train.ipynb, and one held out.
    """
    late = (
        f"; the rows held out are the latest by {split_time!r}, random ones without --split-time" if split_time else ""
    )
    for label, (trained, held) in find_rare(table, heldout).items():
        what, way = table.name, "bring more rows"
        if label is not None:
            what = f"class {str(label)!r} of {table.target!r}"
            way = "leave such classes out with -p rare_classes=drop, join them with other"
        raise ModelerError(
            f"{what} has {trained} rows to train on and {held} held out, where {TRAINED} and 1 are needed; "
            f"{way}, or change holdout with -p holdout=0.3{late}"
        )


def find_rare(table: Table, heldout: np.ndarray) -> dict:
    """Those of `count_dealt` with fewer than `TRAINED` rows to train on, or none held out."""
    return {
        label: (trained, held)
        for label, (trained, held) in count_dealt(table, heldout).items()
        if trained < TRAINED or held < 1
    }


def count_dealt(table: Table, heldout: np.ndarray) -> dict:
    """The rows trained on and held out, of each class or, for a regression, of None."""
    if table.task == "regression":
        return {None: (int((~heldout).sum()), int(heldout.sum()))}
    counts = pd.crosstab(table.frame[table.target].to_numpy(), heldout).reindex(columns=[False, True], fill_value=0)
    return {label: tuple(counted) for label, counted in zip(counts.index.tolist(), counts.to_numpy().tolist())}


def find_unseen(frame: pd.DataFrame, seen: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Which rows of a table have values in these columns that no row of another has, one boolean each."""
    ours, theirs = (
        pd.util.hash_pandas_object(_hashable(part[columns]), index=False) if columns else pd.Series(0, part.index)
        for part in (frame, seen)
    )
    return ~ours.isin(theirs).to_numpy()


def hash_table(frame: pd.DataFrame) -> str:
    """SHA-256 over the column names and every value, in order, as hex digits."""
    digest = hashlib.sha256()
    for name, column in _hashable(frame).items():
        values = column.to_numpy()
        content = values.tobytes() if values.dtype == float else json.dumps(values.tolist()).encode()
        digest.update(json.dumps([str(name), frame[name].dtype.kind, len(content)]).encode() + content)
    return digest.hexdigest()


def raw_records(frame: pd.DataFrame) -> list[dict]:
    """Rows as a caller posts them: plain Python values, dates in ISO 8601, None for a missing value."""
    text = {name: _write_dates(frame[name]) for name in frame.columns if frame[name].dtype.kind == "M"}
    return frame.assign(**text).astype(object).where(frame.notna(), None).to_dict("records")


def _write_dates(column: pd.Series) -> pd.Series:
    """Moments as texts, a time of day where any has one; a midnight among these reads the same without it."""
    time = has_time(column)
    return column.map(lambda moment: write_date(moment.to_pydatetime(), time), na_action="ignore").astype(object)


def _hashable(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 and all else as text, so that a value keeps its hash when a new row changes its column's type."""

    def canonical(column: pd.Series) -> pd.Series:
        if column.dtype.kind in "if":
            return column.astype("float64") + 0.0  # -0.0 becomes 0.0
        return column.astype(object).where(column.notna(), "\x00missing").map(str).astype(object)

    return frame.apply(canonical)
