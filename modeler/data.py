"""Tables: what is predicted from what, dealing rows to training and hold-out, and fingerprinting them."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from modeler import ModelerError, did_you_mean
from modeler.contract import describe_leak, tell_task
from modeler.reading import CsvFormat, read_csv, read_parquet

BUILT_IN_TARGETS = {"breast_cancer": "diagnosis"}
LARGEST = 3.4e38  # what a float32, the graph's number, can hold
TRAINED = 5  # training rows of every class
ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A data set with the column to predict.

    `name` is a slug that can name a model in the store, `told` what `tell_task` was told, and `notes` are sentences about
    what was assumed of the file.
    """

    name: str
    frame: pd.DataFrame
    target: str
    told: str = "auto"
    notes: tuple[str, ...] = ()

    @cached_property
    def task(self) -> str:
        """Classification or regression."""
        return tell_task(self.frame[self.target], self.told)[0]


def load_table(data: str, target: str = "", task: str = "auto", written: CsvFormat = CsvFormat()) -> Table:
    """Load a built-in data set or a .csv or .parquet file.

    Columns come back as int64, float64, bool, datetime64 or object: text, or booleans among missing values (None).

    Parameters
    ----------
    data
        A built-in name or a path.
    target
        The column to predict; built-in data know theirs.
    task
        "classification" or "regression"; "auto" tells it by the target.
    written
        How a .csv file is written, where that cannot be told from the file.

    Raises
    ------
    ModelerError
        When there is no such data, it cannot be read, or the target is not one of its columns.
    """
    if data in BUILT_IN_TARGETS:
        name, frame, target, notes = data, _load_breast_cancer(), target or BUILT_IN_TARGETS[data], []
    else:
        path = _find_file(data)
        name, (frame, notes) = slugify(path.stem) or "table", _read_file(path, written)
    if not target:
        raise ModelerError(f"{data} needs a target: the column to predict, one of {_list_names(frame.columns)}")
    if target not in frame.columns:
        raise ModelerError(
            f"target {target!r} is not a column of {data}{did_you_mean(target, frame.columns)}; "
            f"its columns are {_list_names(frame.columns)}"
        )
    if frame.empty:
        raise ModelerError(f"{data} has no rows; give a file with at least a few dozen")
    if missing := int(frame[target].isna().sum()):
        what = "name another target" if missing == len(frame) else "remove these rows from the data"
        raise ModelerError(f"target {target!r} is missing in {missing} of {len(frame)} rows; {what}")
    frame = frame.apply(_plain_column)
    if frame[target].dtype.kind == "M":
        raise ModelerError(f"target {target!r} is a date; predict a number or a class, such as the days until it")
    for column in frame.select_dtypes("number"):
        if too_large := int((frame[column].abs() > LARGEST).sum()):
            raise ModelerError(
                f"column {column!r} is infinite or beyond {LARGEST:.2g} in {too_large} rows; mend or empty these values"
            )
    task, reason = tell_task(frame[target], task)
    return Table(name, frame, target, task, (*notes, f"{task} of {target!r}: {reason}"))


def check_split(table: Table, heldout: np.ndarray) -> None:
    """Raise a ModelerError where a class, or the whole table, has too few rows to be trained on and judged.

    Cross-validation in train.ipynb has five folds, so every class needs `TRAINED` training rows, and one held out.
    """
    frame, target = table.frame, table.frame[table.target]
    classes = [None] if table.task == "regression" else sorted(target.unique(), key=str)
    for label in classes:
        rows = np.ones(len(frame), bool) if label is None else (target == label).to_numpy()
        trained, held = int((rows & ~heldout).sum()), int((rows & heldout).sum())
        if trained < TRAINED or held < 1:
            what = table.name if label is None else f"class {str(label)!r} of {table.target!r}"
            raise ModelerError(
                f"{what} has {trained} rows to train on and {held} held out, where {TRAINED} and 1 are needed; "
                "bring more rows, merge or leave out rare classes, or change holdout with -p holdout=0.3"
            )


def warn_of_leaks(table: Table) -> list[str]:
    """A sentence for every column that tells the target in every row."""
    frame, target = table.frame, table.target
    return [
        f"warning: {name!r} {leak} and is left out; does it follow from what is to be predicted?"
        for name in frame.columns.drop(target)
        if (leak := describe_leak(frame[name], frame[target]))
    ]


def slugify(text: str) -> str:
    """Turn a text into a name the model store takes: of a-z, 0-9 and _, at most 40 characters, perhaps none."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_")


def split_rows(frame: pd.DataFrame, holdout: float, split_by: str = "") -> np.ndarray:
    """Deal rows to the hold-out by a hash of their content, so that new rows never move an old one across.

    That holds while the columns keep their names and kinds: a first text among numbers deals the table anew. Equal rows
    are told apart by their occurrence number. With `split_by` the hash is of that column alone, so rows that share its
    value stay on one side. The share that is held out is `holdout` in expectation.

    Returns
    -------
    numpy.ndarray
        Boolean, one per row, True where the row is held out.
    """
    if split_by:
        if split_by not in frame.columns:
            raise ModelerError(
                f"--split-by {split_by!r} is not a column{did_you_mean(split_by, frame.columns)}; "
                f"the columns are {_list_names(frame.columns)}"
            )
        frame = frame[[split_by]]
    keys = pd.util.hash_pandas_object(_hashable(frame), index=False)
    occurrence = np.zeros(len(keys), dtype="uint64") if split_by else keys.groupby(keys).cumcount().to_numpy("uint64")
    pairs = np.column_stack([keys.to_numpy("<u8"), occurrence.astype("<u8")]).tobytes()
    dealt = (hashlib.blake2b(pairs[i : i + 16], digest_size=8).digest() for i in range(0, len(pairs), 16))
    return np.frombuffer(b"".join(dealt), dtype="<u8") < np.uint64(holdout * 2**64)


def hash_table(frame: pd.DataFrame) -> str:
    """SHA-256 over the column names and every value, in order, as hex digits."""
    digest = hashlib.sha256()
    for name, column in _hashable(frame).items():
        values = column.to_numpy()
        content = values.tobytes() if values.dtype == float else json.dumps(values.tolist()).encode()
        digest.update(json.dumps([str(name), frame[name].dtype.kind, len(content)]).encode() + content)
    return digest.hexdigest()


def raw_records(frame: pd.DataFrame) -> list[dict]:
    """Rows as a caller would post them: plain Python values, None where one is missing."""
    text = {name: frame[name].map(str, na_action="ignore") for name in frame.columns if frame[name].dtype.kind == "M"}
    return frame.assign(**text).astype(object).where(frame.notna(), None).to_dict("records")


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
        raise ModelerError(f"{data} is a folder; name a {' or '.join(ENDINGS)} file in it")
    if path.suffix or len(path.parts) > 1:
        raise ModelerError(f"data file {data} does not exist; give the path of a {' or '.join(ENDINGS)} file")
    built_in = ", ".join(BUILT_IN_TARGETS)
    raise ModelerError(
        f"{data!r} is neither a built-in name nor a file{did_you_mean(data, BUILT_IN_TARGETS)}; "
        f"built in: {built_in}; files end in {' or '.join(ENDINGS)}"
    )


def _read_file(path: Path, written: CsvFormat) -> tuple[pd.DataFrame, list[str]]:
    try:
        return read_csv(path, written) if path.suffix.lower() == ".csv" else read_parquet(path)
    except OSError as error:
        raise ModelerError(f"{path} cannot be read: {error.strerror or error}; permit reading it") from None


def _plain_column(column: pd.Series) -> pd.Series:
    kind, whole = column.dtype, not column.isna().any()
    if pd.api.types.is_bool_dtype(kind):
        return column.astype(bool) if whole else column.astype(object).where(column.notna(), None)
    if pd.api.types.is_numeric_dtype(kind):
        return column.astype("int64" if whole and pd.api.types.is_integer_dtype(kind) else "float64")
    if pd.api.types.is_datetime64_any_dtype(kind):
        return column
    present = column.dropna()
    if len(present) and present.map(lambda value: isinstance(value, bool)).all():
        return column.astype(object).where(column.notna(), None)
    return column.astype(object).map(str, na_action="ignore").astype(object).where(column.notna(), None)


def _hashable(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 and all else as text, so that a value hashes alike when a new row changes its column's type."""

    def canonical(column: pd.Series) -> pd.Series:
        if column.dtype.kind in "if":
            return column.astype("float64") + 0.0  # -0.0 becomes 0.0
        return column.astype(object).where(column.notna(), "\x00missing").map(str).astype(object)

    return frame.apply(canonical)


def _list_names(names, most: int = 8) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
