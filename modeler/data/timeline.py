"""The split by time: the boundary, the rows at or after it, and what a person should know of it."""

import json

import numpy as np
import pandas as pd

from modeler import ModelerError, did_you_mean, list_names
from modeler.data.columns import feature_type
from modeler.data.tables import Table
from modeler.model.dates import write_date


def order_rows(frame: pd.DataFrame, split_by: str | None, split_time: str) -> pd.Series:
    """The time that places each row: its own or, with groups, the latest of its group; missing where there is none.

    A ModelerError: a column does not exist, or the times are neither dates nor numbers.
    """
    times = _read_times(frame, split_time)
    if not split_by:
        return times
    check_column(frame, "--split-by", split_by)
    return times.groupby(frame[split_by], dropna=False).transform("max")


def split_by_time(frame: pd.DataFrame, holdout: float, split_by: str | None, split_time: str) -> np.ndarray:
    """One boolean per row, True for held out: the rows at or after the boundary of `find_boundary`."""
    boundary = find_boundary(frame, holdout, split_by, split_time)
    return (order_rows(frame, split_by, split_time) >= boundary).to_numpy()


def find_boundary(frame: pd.DataFrame, holdout: float, split_by: str | None, split_time: str):
    """The time at or after which the share of the rows is nearest to `holdout`; of two as near, the later one.

    Rows of one time stand on one side, and so do rows of one group: it is held out if its latest row is. A
    ModelerError: more than half of the rows lack a time, or no boundary would leave rows to train on.
    """
    placed, times = order_rows(frame, split_by, split_time), frame[split_time]
    if 2 * (missing := int(times.isna().sum())) > len(frame):
        raise ModelerError(
            f"--split-time {split_time!r} is missing in {missing} of {len(frame)} rows; name another column, "
            "or fill it in"
        )
    held = placed.value_counts().sort_index(ascending=False).cumsum()
    if len(held) > 1:
        return (held.iloc[:-1] - holdout * len(frame)).abs().idxmin()
    only = write_boundary(held.index[0])
    if times.nunique() > 1:
        raise ModelerError(
            f"every {split_by!r} has its latest row at {only} by {split_time!r}, so none lies before a boundary; "
            "leave out --split-by or --split-time"
        )
    raise ModelerError(
        f"--split-time {split_time!r} is {only} in every row, so no row is later; name another column, or leave it out"
    )


def find_later(frame: pd.DataFrame, split_time: str, boundary: str) -> np.ndarray:
    """Which rows are themselves at or after the boundary that a contract notes, one boolean each."""
    times = _read_times(frame, split_time)
    is_date = times.dtype.kind == "M"
    return (times >= (pd.Timestamp(boundary).tz_localize(None) if is_date else json.loads(boundary))).to_numpy()


def write_boundary(boundary) -> str:
    """A date in ISO 8601, such as 2026-03-01, with a time of day in UTC, such as 2026-03-01T14:30:00Z; or a number."""
    if isinstance(boundary, pd.Timestamp):
        return write_date(boundary, boundary != boundary.normalize())
    number = boundary.item()
    return str(int(number)) if number == int(number) else repr(number)


def describe_split(table: Table, holdout: float, split_by: str | None = "", split_time: str | None = "") -> dict:
    """How the rows of a table are held out, as its contract notes it."""
    boundary = None
    if split_time:
        if split_time == table.target:
            raise ModelerError(f"--split-time {split_time}: this is the target; name a column such as a date")
        boundary = write_boundary(find_boundary(table.frame, holdout, split_by, split_time))
    return {"by": split_by or None, "time": split_time or None, "boundary": boundary, "share": holdout}


def note_time(table: Table, heldout: np.ndarray, split_by: str | None, split_time: str | None) -> list[str]:
    """What a person should know of a split by time; or, where there is none, that a date calls for one."""
    frame = table.frame
    if not split_time:
        return _recommend(frame)
    boundary = write_boundary(order_rows(frame, split_by, split_time)[heldout].min())
    since, held = f"at or after {boundary} by {split_time!r}", f"held out, {heldout.sum()} of {len(frame)} rows"
    notes = [f"each {split_by!r} with a row {since} is {held}" if split_by else f"the rows {since} are {held}"]
    if missing := int(frame[split_time].isna().sum()):
        unless = f", unless their {split_by!r} is held out" if split_by else ""
        told = "1 row has" if missing == 1 else f"{missing} rows have"
        notes.append(f"{told} no {split_time!r} and cannot be placed; such rows are trained on{unless}")
    return notes


def check_column(frame: pd.DataFrame, option: str, name: str) -> None:
    """Raise a ModelerError unless the frame has the column that an option names."""
    if name not in frame.columns:
        raise ModelerError(
            f"{option} {name!r} is not a column{did_you_mean(name, frame.columns)}; "
            f"the columns are {list_names(frame.columns)}"
        )


def _read_times(frame: pd.DataFrame, split_time: str) -> pd.Series:
    """A column of dates, in UTC without a zone, or of numbers."""
    check_column(frame, "--split-time", split_time)
    times = frame[split_time]
    if times.dtype.kind not in "ifM":
        is_boolean = feature_type(times) == "boolean"
        way = "" if is_boolean else f'; -p columns="{split_time}=date:%d/%m/%Y" reads texts as dates'
        raise ModelerError(
            f"--split-time {split_time!r} holds {'booleans' if is_boolean else 'texts'}, and it must hold dates, "
            f"or numbers that grow with time, such as a year{way}"
        )
    return times.dt.tz_convert(None) if getattr(times.dtype, "tz", None) else times


def _recommend(frame: pd.DataFrame) -> list[str]:
    dates = [name for name, column in frame.items() if column.dtype.kind == "M" and column.nunique() > 1]
    usable = [name for name in dates if 2 * frame[name].isna().sum() <= len(frame)]
    if not usable:
        return []
    return [
        f"{list_names(usable)} {'is a date' if len(usable) == 1 else 'are dates'}: if the model shall answer rows later "
        f"than these, --split-time {usable[0]!r} holds out the latest ones instead of a random share, "
        "which is the fairer test"
    ]
