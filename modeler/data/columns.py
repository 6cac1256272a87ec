"""What one column is: its type, its correlation with the target, and reasons not to use it."""

import numpy as np
import pandas as pd

from modeler import ModelerError

MOST_CATEGORIES = 0.5  # distinct texts per row from which a text column is identifier-like
MOST_CLASSES = 20  # distinct whole numbers up to which a numeric target is a set of classes
MOST_WORDS = 5  # median words of a text column from which it is free text


def feature_type(column: pd.Series) -> str:
    """Return "number", "boolean", "date" or "category"."""
    if column.dtype.kind in "ifM":
        return "date" if column.dtype.kind == "M" else "number"
    return "boolean" if pd.api.types.infer_dtype(column) == "boolean" else "category"


def tell_task(target: pd.Series, told: str = "auto") -> tuple[str, str]:
    """Return "classification" or "regression", and why; a ModelerError refuses a regression of anything but numbers."""
    numeric, different = target.dtype.kind in "if", target.nunique()
    if told == "regression" and not numeric:
        raise ModelerError(
            f"target {target.name!r} holds {plain_value(target.iloc[0])!r}, so it cannot be a regression; "
            "leave out -p task=regression, or name a target of numbers"
        )
    if told != "auto":
        return told, f"-p task={told} says so"
    if not numeric:
        kind = "booleans" if feature_type(target) == "boolean" else "texts"
        return "classification", f"its {different} different values are {kind}"
    if target.dtype.kind == "f" and not (target == target.round()).all():
        return "regression", "its values are fractional numbers"
    if different > MOST_CLASSES:
        return "regression", f"it has {different} different numbers, more than {MOST_CLASSES}"
    return "classification", f"it has {different} different whole numbers, no more than {MOST_CLASSES}"


def describe_leak(column: pd.Series, target: pd.Series) -> str | None:
    """How a column gives the target away in every row: as the same values, as a code for each, or in another unit.

    A code counts only if the target has two rows or more of each value on average.
    """
    if column.equals(target):
        return f"is the target {target.name!r} once more"
    if column.isna().any():
        return None
    distinct = target.nunique()
    if column.head(1000).nunique() <= distinct <= len(target) / 2 and column.nunique() == distinct:
        pairs = column.astype(str) + "\0" + target.astype(str)
        return f"stands for the target {target.name!r} in every row" if pairs.nunique() == distinct else None
    if distinct > 2 and column.dtype.kind in "if" and target.dtype.kind in "if" and column.nunique() > 2:
        if abs(np.corrcoef(column, target)[0, 1]) > 1 - 1e-9:
            return f"is the target {target.name!r} in another unit"
    return None


def measure_correlation(column: pd.Series, target: pd.Series, task: str) -> float:
    """Correlation ratio of a column and the target on the rows where the column is present, 0 to 1.

    The square root of the share of variance that lies between groups (K. Pearson, 1905; R. A. Fisher, Statistical
    Methods for Research Workers, 1925). The classes group a column of numbers. Categories group the target: its numbers,
    or one indicator per class with the variances added. Many categories show an association by chance, so their share is
    corrected for bias (T. L. Kelley, PNAS 21, 1935). For two numbers, the absolute correlation.
    """
    present = column.notna()
    column, target = column[present], target[present]
    if column.nunique() < 2 or target.nunique() < 2:
        return 0.0
    numeric = feature_type(column) != "category"
    if numeric:
        values = column.to_numpy("float64")[:, None]
        if task == "regression":
            return float(abs(np.corrcoef(values[:, 0], target.to_numpy("float64"))[0, 1]))
        groups = target.factorize()[0]
    else:
        is_value = task == "regression"
        values = target.to_numpy("float64")[:, None] if is_value else np.eye(target.nunique())[target.factorize()[0]]
        groups = column.factorize()[0]
    counts = np.bincount(groups)
    centred = values - values.mean(axis=0)
    sums = np.stack([np.bincount(groups, weights=part) for part in centred.T])
    share = (sums**2 / counts).sum() / (centred**2).sum()
    if not numeric:
        free = len(groups) - len(counts)
        share = max(0.0, 1 - (1 - share) * (len(groups) - 1) / free) if free else 0.0
    return float(np.sqrt(share))


def count_words(present: pd.Series) -> float:
    """The median number of words in a column of free text, else 0."""
    if feature_type(present) != "category" or present.nunique() <= MOST_CLASSES:
        return 0
    words = present.drop_duplicates().str.split().str.len().median()
    return words if words >= MOST_WORDS else 0


def is_identifier(name, present: pd.Series) -> bool:
    distinct = present.nunique()
    if feature_type(present) == "category":
        return distinct > 20 and distinct > MOST_CATEGORIES * len(present)
    if present.dtype.kind != "i" or not len(present) == distinct > 20:
        return False
    is_named_id = str(name).lower().replace("_", " ").split()[-1:] == ["id"]
    return is_named_id or bool(present.max() - present.min() < 2 * distinct)


def plain_value(value):
    """A value as JSON knows it."""
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else str(value)
