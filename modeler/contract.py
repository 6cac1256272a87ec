"""The contract: what callers and training agree on about the data. Derived by eda.ipynb, read by everything else.

Reading and writing need neither pandas nor scikit-learn, so that the service can do it.
"""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeler import ModelerError

if TYPE_CHECKING:
    import pandas as pd

    from modeler.data import Table

NEARLY_EMPTY = 0.95  # share of missing training values from which a column is dropped
MOST_CATEGORIES = 0.5  # distinct texts per row from which a text column is identifier-like
MOST_CLASSES = 20  # distinct whole numbers up to which a numeric target is a set of classes
MOST_WORDS = 5  # words in the middle text of a column from which it is free text
DATE = r"\d{4}([-/.])\d{1,2}\1\d{1,2}([T ].*)?|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2})( .*)?"  # 2024-01-31, 31.01.2024, 1/31/24
THRESHOLD = 0.5  # probability from which the positive class is answered until train.ipynb says otherwise


def derive_contract(
    table: "Table",
    training: "pd.DataFrame",
    *,
    min_association: float,
    holdout: float,
    split_by: str = "",
    positive: str = "",
) -> dict:
    """Derive the contract of a table.

    Whether null is allowed is read from all rows; everything else from the training rows alone.

    Parameters
    ----------
    table
        All rows, with the target's name.
    training
        The rows of `table.frame` that are not held out.
    min_association
        The association with the target below which a column is dropped, 0 to 1.
    holdout, split_by
        How the rows were dealt; noted so that train.ipynb and the gate deal them alike.
    positive
        For two classes, the one looked for. Default: the rarer among the training rows.

    Raises
    ------
    ModelerError
        When the target has one class only, `positive` is none of its classes, or no column is left.
    """
    frame, target = table.frame, table.target
    task = table.task
    described_target = _describe_target(table, training, positive)
    features = []
    for name in frame.columns.drop(target):
        association = measure_association(training[name], training[target], task)
        leak = describe_leak(frame[name], frame[target])
        reason = _reason_to_drop(name, training, features, association, min_association, split_by, leak)
        features.append(_describe_feature(frame[name], training[name], association, reason))
    if not any(feature["used"] for feature in features):
        raise ModelerError(
            f"no column of {table.name} has an association of {min_association} or more with {target!r}; "
            "lower min_association, or bring data that tell something about the target"
        )
    return {
        "name": table.name,
        "task": task,
        "target": described_target,
        "features": features,
        "rows": len(frame),
        "holdout": {"share": holdout, "split_by": split_by or None},
    }


def tell_task(target: "pd.Series", told: str = "auto") -> tuple[str, str]:
    """Tell classification or regression by a target, unless it was told, and say why.

    Raises
    ------
    ModelerError
        When a regression was told of a target that is no number.
    """
    numeric, different = target.dtype.kind in "if", target.nunique()
    if told == "regression" and not numeric:
        raise ModelerError(
            f"target {target.name!r} holds {_plain(target.iloc[0])!r}, so it cannot be a regression; "
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


def list_classes(table: "Table") -> list | None:
    """The classes of a target in sorted order, as they stand in the data; None for a regression."""
    if table.task == "regression":
        return None
    classes = [_plain(label) for label in np.unique(table.frame[table.target].to_numpy())]
    if len(classes) < 2:
        raise ModelerError(
            f"target {table.target!r} is {classes[0]!r} in every row; a model needs at least two classes"
        )
    return classes


def describe_leak(column: "pd.Series", target: "pd.Series") -> str | None:
    """How a column tells the target in every row: by the same values, by others, or in another unit; None if it does not.

    Other values are meant where each of them stands for one of the target's, which has two rows of each or more.
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


def measure_association(column: "pd.Series", target: "pd.Series", task: str) -> float:
    """Correlation ratio of a column and the target on the rows where the column is present, 0 to 1.

    The square root of the share of variance that lies between groups (K. Pearson, 1905; R. A. Fisher, Statistical
    Methods for Research Workers, 1925). Numbers are grouped by class. Categories group the target: its number, or one
    indicator a class with their variances added; their many groups would show an association by chance alone, so that
    share is taken without bias (T. L. Kelley, PNAS 21, 1935). For two numbers, the absolute correlation.
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
        values = (
            target.to_numpy("float64")[:, None]
            if task == "regression"
            else np.eye(target.nunique())[target.factorize()[0]]
        )
        groups = column.factorize()[0]
    counts = np.bincount(groups)
    centred = values - values.mean(axis=0)
    sums = np.stack([np.bincount(groups, weights=part) for part in centred.T])
    share = (sums**2 / counts).sum() / (centred**2).sum()
    if not numeric:
        free = len(groups) - len(counts)
        share = max(0.0, 1 - (1 - share) * (len(groups) - 1) / free) if free else 0.0
    return float(np.sqrt(share))


def feature_type(column: "pd.Series") -> str:
    """Return "number", "boolean" or "category"."""
    if column.dtype.kind in "if":
        return "number"
    present = column.dropna()
    if column.dtype.kind == "b" or (len(present) and present.map(lambda value: isinstance(value, bool)).all()):
        return "boolean"
    return "category"


def class_key(label) -> str:
    """The name under which a class stands in JSON objects: its text, or its JSON form for numbers and booleans."""
    return label if isinstance(label, str) else json.dumps(label)


def used_features(contract: dict) -> list[dict]:
    """The features that go into the model: numbers and booleans first, then categories, each in the data's order."""
    used = [feature for feature in contract["features"] if feature["used"]]
    return sorted(used, key=lambda feature: feature["type"] == "category")


def check_table(table: "Table", contract: dict) -> None:
    """Raise a ModelerError unless the table has the contract's columns and number of rows."""
    names = {contract["target"]["name"], *(feature["name"] for feature in contract["features"])}
    differing = sorted(names.symmetric_difference(table.frame.columns))
    if differing or contract["rows"] != len(table.frame):
        raise ModelerError(
            f"the contract is of {contract['name']} with {contract['rows']} rows, the data are {table.name} with "
            f"{len(table.frame)} rows and {f'differ in {differing[0]!r}' if differing else 'the same columns'}; "
            "run eda.ipynb on these data first"
        )


def read_contract(path: Path) -> dict:
    """Read contract.json; a missing one is answered with the notebook that writes it."""
    try:
        return read_json(path)
    except FileNotFoundError:
        raise ModelerError(
            f"there is no {path}; run eda.ipynb first, with the same parameters: it writes the contract"
        ) from None
    except ValueError as error:
        raise ModelerError(f"{path} is not a contract ({error}); run eda.ipynb again") from None


def read_json(path: Path):
    """Read a JSON file; NaN and Infinity, which JSON does not have, are a ValueError."""
    return json.loads(Path(path).read_text("utf-8"), parse_constant=_refuse_constant)


def write_json(path: Path, content) -> None:
    """Write a JSON file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    os.replace(draft, path)


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _reason_to_drop(name, training, earlier, association, min_association, split_by, leak) -> str | None:
    column = training[name]
    present = column.dropna()
    if name == split_by:
        return "groups the rows (--split-by), so it would give the hold-out away"
    if present.empty or column.isna().mean() >= NEARLY_EMPTY:
        return f"nearly empty: {column.isna().mean():.0%} missing"
    if _is_date(present):
        return "a date; dates are not used yet"
    if present.nunique() == 1:
        return f"constant: always {present.iloc[0]}"
    if leak:
        return f"{leak}, so it would give the answer away"
    if words := _count_words(present):
        return f"free text: {words:.0f} words in the middle one"
    if _is_identifier(name, present):
        return f"identifier-like: {present.nunique()} different values in {len(present)} rows"
    for feature in earlier:
        if feature["used"] and training[feature["name"]].equals(column):
            return f"duplicate of {feature['name']}"
    if association < min_association:
        return f"association {association:.3f} is below {min_association}"
    return None


def _is_date(present: "pd.Series") -> bool:
    if present.dtype.kind == "M":
        return True
    is_text = feature_type(present) == "category" and re.fullmatch(DATE, present.iloc[0])
    return bool(is_text and present.drop_duplicates().str.fullmatch(DATE).all())


def _count_words(present: "pd.Series") -> float:
    """Words in the middle text of a column of free text, else 0."""
    if feature_type(present) != "category" or present.nunique() <= MOST_CLASSES:
        return 0
    words = present.drop_duplicates().str.split().str.len().median()
    return words if words >= MOST_WORDS else 0


def _is_identifier(name, present: "pd.Series") -> bool:
    distinct = present.nunique()
    if present.dtype.kind == "O":
        return feature_type(present) == "category" and distinct > 20 and distinct > MOST_CATEGORIES * len(present)
    whole_and_all_different = present.dtype.kind == "i" and distinct == len(present) > 20
    counted = whole_and_all_different and present.max() - present.min() < 2 * distinct
    return counted or (whole_and_all_different and str(name).lower().replace("_", " ").split()[-1:] == ["id"])


def _describe_feature(column, training, association, reason) -> dict:
    kind = feature_type(column)
    present = training.dropna()
    feature = {
        "name": str(column.name),
        "type": kind,
        "used": reason is None,
        "association": round(association, 3),
        "reason": reason,
        "missing": bool(column.isna().any()),
    }
    if kind == "number":
        feature |= {
            "min": present.min().item() if len(present) else None,
            "max": present.max().item() if len(present) else None,
        }
    elif kind == "boolean":
        feature |= {"categories": [False, True]}
    elif reason is None:
        feature |= {"categories": sorted(present.unique())}
    else:  # what a dropped column of texts holds, such as names of patients, is nobody's business
        return feature | {"example": None}
    return feature | {"example": _plain(training.iloc[0])}


def _describe_target(table, training, positive) -> dict:
    target, classes = table.target, list_classes(table)
    if classes is None:
        return {"name": target, "classes": None}
    described = {"name": target, "classes": classes}
    if len(classes) == 2:
        keys = [class_key(label) for label in classes]
        if positive and positive not in keys:
            raise ModelerError(f"positive {positive!r} is no class of {target!r}; its classes are {' and '.join(keys)}")
        rarer = min(classes, key=lambda label: int((training[target] == label).sum()))
        described |= {"positive": classes[keys.index(positive)] if positive else rarer, "threshold": THRESHOLD}
    return described


def _plain(value):
    """A value as JSON has it."""
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else str(value)
