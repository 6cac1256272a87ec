"""Tables: built-in data or a file, with the column to predict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from modeler import ModelerError, did_you_mean, list_names
from modeler.data.columns import describe_leak, feature_type, tell_task
from modeler.data.dialect import CsvFormat
from modeler.data.reading import Content, read_csv, read_parquet, settle_frame
from modeler.model.stored import slugify

BUILT_IN_TARGETS = {"breast_cancer": "diagnosis"}
LARGEST = 3.4e38  # what a float32, the graph's number, can hold
ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A data set with the column to predict.

    `name` is a slug that can name a model in the store. `told` is a task or "auto". `notes` say what was assumed of the
    file. `left_out` counts its rows without a target, which the frame lacks. `rare` says what became of rare classes: rule,
    classes and rows; `sample`, of how many rows of which file these are a sample. `formats` are those of columns that the file has as texts, `settled` the types that a person told, by name.
    """

    name: str
    frame: pd.DataFrame
    target: str
    told: str = "auto"
    notes: tuple[str, ...] = ()
    left_out: int = 0
    rare: dict | None = None
    built_in: bool = False
    sample: dict | None = None
    formats: Mapping[str, str | list[str]] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def task(self) -> str:
        return tell_task(self.frame[self.target], self.told)[0]


def load_table(data: str, target: str = "", task: str = "auto", written: CsvFormat = CsvFormat()) -> Table:
    """Load a built-in data set, which knows its target, or a .csv or .parquet file.

    Columns are int64, float64, bool, datetime64 or object: text, or booleans with missing values (None). `task` is
    "classification", "regression" or "auto". A ModelerError: the data do not exist, cannot be read or cannot be used.
    """
    if data in BUILT_IN_TARGETS:
        name, target, content = data, target or BUILT_IN_TARGETS[data], settle_frame(_load_breast_cancer(), written)
    else:
        path = _find_file(data)
        name, content = slugify(path.stem) or "table", _read_file(path, written, target)
    frame, notes = content.frame, content.notes
    if not target:
        raise ModelerError(f"{data} needs a target: the column to predict, one of {list_names(frame.columns)}")
    if target not in frame.columns:
        raise ModelerError(
            f"target {target!r} is not a column of {data}{did_you_mean(target, frame.columns)}; "
            f"its columns are {list_names(frame.columns)}"
        )
    if frame.empty:
        raise ModelerError(f"{data} has no rows; give a file with at least a few dozen")
    frame, left_out = _leave_out(frame, target)
    if left_out:
        notes = [*notes, f"{left_out} of {len(frame) + left_out} rows have no {target!r} and are left out"]
    frame = frame.apply(_plain_column)
    _check_values(frame, target, content.settled)
    task, reason = tell_task(frame[target], task)
    notes = *notes, f"{task} of {target!r}: {reason}"
    built_in = data in BUILT_IN_TARGETS
    return Table(name, frame, target, task, notes, left_out, None, built_in, None, content.formats, content.settled)


def warn_of_leaks(table: Table) -> list[str]:
    """One sentence for each column that gives the target away in every row."""
    frame, target = table.frame, table.target
    return [
        f"warning: {name!r} {leak} and is left out; is it a consequence of the target?"
        for name in frame.columns.drop(target)
        if (leak := describe_leak(frame[name], frame[target]))
    ]


def _load_breast_cancer() -> pd.DataFrame:
    from sklearn.datasets import load_breast_cancer  # late: scikit-learn takes a second to import

    bunch = load_breast_cancer(as_frame=True)
    return bunch.data.assign(diagnosis=bunch.target_names[bunch.target])


def _find_file(data: str) -> Path:
    path = Path(data).expanduser()
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise ModelerError(f"{data} ends in {path.suffix or 'nothing'}; data files end in {' or '.join(ENDINGS)}")
        return path
    if path.is_dir():
        raise ModelerError(
            f"{data} is a folder; name a {' or '.join(ENDINGS)} file in it, or train on rows of its Parquet files with --sample ROWS"
        )
    if path.exists():
        raise ModelerError(f"{data} is a pipe or a device; save what comes out of it as a {' or '.join(ENDINGS)} file")
    if path.suffix or len(path.parts) > 1:
        raise ModelerError(f"data file {data} does not exist; give the path of a {' or '.join(ENDINGS)} file")
    raise ModelerError(
        f"{data!r} is neither a built-in name nor a file{did_you_mean(data, BUILT_IN_TARGETS)}; "
        f"built in: {', '.join(BUILT_IN_TARGETS)}; files end in {' or '.join(ENDINGS)}"
    )


def _read_file(path: Path, written: CsvFormat, target: str) -> Content:
    try:
        read = read_csv if path.suffix.lower() == ".csv" else read_parquet
        return read(path, written, target)
    except OSError as error:
        raise ModelerError(f"{path} cannot be read: {error.strerror or error}; allow us to read it") from None


def _leave_out(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, int]:
    """The rows with a target, and the number of the others."""
    present, rows = frame[target].notna(), len(frame)
    left_out = int((~present).sum())
    if 2 * left_out > rows:
        raise ModelerError(
            f"target {target!r} is missing in {left_out} of {rows} rows; name another target, or fill it in"
        )
    if left_out:
        frame = frame[present].reset_index(drop=True).infer_objects()
        if frame[target].dtype.kind == "f" and (frame[target] % 1 == 0).all():  # whole numbers that had gaps
            frame[target] = frame[target].astype("int64")
    return frame, left_out


def _plain_column(column: pd.Series) -> pd.Series:
    kind, whole = column.dtype.kind, not column.isna().any()
    if kind in "iuf":
        return column.astype("int64" if whole and kind != "f" else "float64")
    if kind == "M":
        return (column.dt.tz_convert(None) if column.dt.tz else column).dt.as_unit("us")
    values = column.astype(object).where(column.notna(), None)
    if feature_type(values) == "boolean":
        return values.astype(bool) if whole else values
    return values.map(str, na_action="ignore").astype(object).where(column.notna(), None)


def _check_values(frame: pd.DataFrame, target: str, settled: Mapping[str, str]) -> None:
    if settled.get(target) == "drop":
        raise ModelerError(f"columns drops the target {target!r}; name another target, or keep it")
    if frame[target].dtype.kind == "M":
        raise ModelerError(f"target {target!r} is a date; predict a number or a class, such as the days until it")
    for name, column in frame.select_dtypes("number").items():
        if too_large := int((column.abs() > LARGEST).sum()):
            raise ModelerError(
                f"column {name!r} is infinite or beyond {LARGEST:.2g} in {too_large} rows; mend or empty these values"
            )
    for name, column in frame.select_dtypes("datetime").items():
        if (outside := column[~column.dropna().dt.year.between(1, 9999).reindex(column.index, fill_value=True)]).size:
            raise ModelerError(
                f"column {name!r} has a date before the year 1 or after 9999 in row {outside.index[0] + 1}; mend or empty it"
            )
