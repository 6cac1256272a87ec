"""Deriving the contract from a table, first in eda.ipynb and again in the gate."""

import csv

import numpy as np
import pandas as pd

from modeler import ModelerError, did_you_mean, list_names
from modeler.data.association import measure_associations
from modeler.data.columns import (
    count_words,
    describe_leak,
    feature_type,
    is_identifier,
    measure_correlation,
    plain_value,
)
from modeler.data.dates import has_time
from modeler.data.noise import find_noise
from modeler.data.tables import Table
from modeler.data.timeline import describe_split
from modeler.model.contract import class_key
from modeler.model.dates import ISO, write_date

NEARLY_EMPTY = 0.95  # share of missing training values from which a column is dropped
ARTICLE = 0.1  # the least correlation in the article that the built-in data come from
NOISE, BELOW = "cannot be told from noise", "association"  # how the reasons of weak columns begin
THRESHOLD = 0.5  # lowest probability that answers the positive class, until train.ipynb sets another


def derive_contract(
    table: Table,
    training: pd.DataFrame,
    min_association: str | float,
    holdout: float,
    split_by: str = "",
    positive: str = "",
    leave_out: str = "",
    split_time: str = "",
) -> dict:
    """Derive the contract of a table from its `training` rows; all rows decide only whether null is allowed.

    A column is dropped as weak if its association is below `min_association`, or with `auto` if it cannot be told from
    noise; see `read_min_association`. `leave_out` names columns that the model shall not use. A column whose type a person
    settled is used unless it cannot be. Of two classes, `positive` is the one to look for, by default the rarer one. The
    contract notes `holdout`, `split_by` and `split_time`, so that train.ipynb and the gate split the rows in the same way. A
    ModelerError: the target has only one class, `positive` is not a class, a column to leave out does not exist, or no
    column is left.
    """
    frame, target = table.frame, table.target
    least, left_out = read_min_association(min_association, table), read_columns(leave_out, table)
    described_target = _describe_target(table, training, positive)
    associations, reasons = _associate(table, training), {}
    for name in frame.columns.drop(target):
        used = [earlier for earlier, reason in reasons.items() if reason is None]
        leak = describe_leak(frame[name], frame[target])
        reasons[name] = _reason_to_drop(name, training, used, split_by, left_out, leak, table.settled.get(name))
    usable = [name for name, reason in reasons.items() if reason is None]
    weak = _judge_weak(table, training[[*usable, target]], associations, least)
    reasons |= {name: reason for name, reason in weak.items() if name not in table.settled}
    if None not in reasons.values():
        raise ModelerError(_describe_no_column(table, usable, associations, least, reasons))
    features = [
        _describe_feature(frame[name], training[name], associations[name], reason, table.formats.get(name))
        for name, reason in reasons.items()
    ]
    return {
        "name": table.name,
        "task": table.task,
        "target": described_target,
        "features": features,
        "rows": len(frame),
        **({"rows_without_target": table.left_out} if table.left_out else {}),
        "split": describe_split(table, holdout, split_by, split_time),
    }


def read_min_association(told: str | float, table: Table) -> float | None:
    """The association below which a column is weak, or None where noise decides.

    `auto` is the article's rule for the built-in data, and noise elsewhere.
    """
    if str(told) == "auto":
        return ARTICLE if table.built_in else None
    try:
        least = float(told)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise ModelerError(f"min_association must be auto, or a number from 0 to 1, got: {told}")
    return least


def read_columns(leave_out: str, table: Table) -> list[str]:
    """The columns of a text COLUMN,COLUMN; a name that holds a comma stands in double quotes."""
    columns = table.frame.columns.drop(table.target)
    if leave_out in columns:
        return [leave_out]
    names = [name for name in next(csv.reader([leave_out], skipinitialspace=True), []) if name]
    for name in names:
        if name == table.target:
            raise ModelerError(f"leave_out names the target {name!r}; name columns that the model shall not use")
        if name not in columns:
            raise ModelerError(
                f"leave_out names {name!r}, which is not a column{did_you_mean(name, columns)}; "
                f"the columns are {list_names(columns)}"
            )
    return names


def warn_of_weak(contract: dict) -> list[dict]:
    """One warning that names the columns dropped as weak and the way back, or none."""
    weak = [
        feature["name"]
        for feature in contract["features"]
        if not feature["used"] and feature["reason"].startswith((NOISE, BELOW))
    ]
    if not weak:
        return []
    columns = "1 column is" if len(weak) == 1 else f"{len(weak)} columns are"
    message = f"{columns} left out as weak: {list_names(weak)}; -p min_association=0 keeps such columns"
    return [{"kind": "weak columns", "columns": weak, "message": message}]


def list_classes(table: Table) -> list | None:
    """The sorted classes of a target, in the data's own type; None for a regression."""
    if table.task == "regression":
        return None
    classes = [plain_value(label) for label in np.unique(table.frame[table.target].to_numpy())]
    if len(classes) < 2:
        raise ModelerError(
            f"target {table.target!r} is {classes[0]!r} in every row; a model needs at least two classes"
        )
    return classes


def check_table(table: Table, contract: dict) -> None:
    """Raise a ModelerError unless the table has the contract's columns and number of rows."""
    names = {contract["target"]["name"], *(feature["name"] for feature in contract["features"])}
    differing = sorted(names.symmetric_difference(table.frame.columns))
    if differing or contract["rows"] != len(table.frame):
        raise ModelerError(
            f"the contract is of {contract['name']} with {contract['rows']} rows, the data are {table.name} with "
            f"{len(table.frame)} rows and {f'differ in {differing[0]!r}' if differing else 'the same columns'}; "
            "run eda.ipynb on these data first"
        )


def _associate(table, training) -> dict[str, float]:
    """Built-in data are measured as the article does it, so that its rule drops the article's columns."""
    target, task = table.target, table.task
    if not table.built_in:
        return measure_associations(training, target, task)
    names = training.columns.drop(target)
    return {name: measure_correlation(training[name], training[target], task) for name in names}


def _reason_to_drop(name, training, used, split_by, left_out, leak, settled) -> str | None:
    column = training[name]
    present = column.dropna()
    if name == split_by:
        return "groups the rows (--split-by), so it would give the hold-out away"
    if name in left_out:
        return "left out by -p leave_out"
    if settled == "drop":
        return "left out by -p columns"
    if present.empty or (column.isna().mean() >= NEARLY_EMPTY and not settled):
        return f"nearly empty: {column.isna().mean():.0%} missing"
    if present.nunique() == 1:
        return f"constant: always {present.iloc[0]}"
    if settled:
        return None
    if leak:
        return f"{leak}, so it would give the answer away"
    if words := count_words(present):
        return f"free text: {words:.0f} words in the middle one"
    if is_identifier(name, present):
        return f"identifier-like: {present.nunique()} different values in {len(present)} rows"
    same = [earlier for earlier in used if training[earlier].equals(column)]
    return f"duplicate of {same[0]}" if same else None


def _judge_weak(table, usable, associations, least) -> dict[str, str]:
    """Why some of the usable columns are dropped as weak. If all look like noise all are kept, for the gate to
    judge."""
    names = usable.columns.drop(table.target)
    if least is not None:
        weak = [name for name in names if associations[name] < least]
        return {name: f"{BELOW} {associations[name]:.3f} is below {least:g}" for name in weak}
    noise = find_noise(usable, table.target, table.task) if len(names) else []
    if len(noise) == len(names):
        return {}
    return {name: f"{NOISE} (association {associations[name]:.3f})" for name in noise}


def _describe_no_column(table, usable, associations, least, reasons) -> str:
    if usable:
        best = max(usable, key=associations.get)
        return (
            f"no column of {table.name} has an association of {least:g} or more with {table.target!r}; the highest is "
            f"{associations[best]:.3f}, of {best!r}; lower min_association, or leave it at auto"
        )
    told = "; ".join(f"{name!r} {reason}" for name, reason in list(reasons.items())[:3])
    return f"no column of {table.name} can be used: {told or 'it has none but the target'}; bring other columns"


def _describe_feature(column, training, association, reason, form) -> dict:
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
    if form and kind in ("number", "boolean"):
        feature |= {"format": form}
    if kind == "number":
        feature |= {"min": plain_value(present.min()), "max": plain_value(present.max())}
    elif kind == "boolean":
        feature |= {"categories": [False, True]}
    elif kind == "date":
        return feature | _describe_date(column, training, form, reason is None)
    elif reason is None:
        feature |= {"categories": sorted(present.unique())}
    else:  # the texts of a dropped column, such as names of patients, stay private
        return feature | {"example": None}
    return feature | {"example": plain_value(training.iloc[0])}


def _describe_date(column, training, form, used) -> dict:
    time = has_time(column)
    described = {"time": time, "format": form or (f"{ISO}T%H:%M:%S" if time else ISO)}
    bounds = training.min(), training.max(), training.iloc[0]
    for name, moment in zip(
        ("min", "max", "example"), bounds
    ):  # the dates of a dropped column stay private, like its texts
        described[name] = write_date(moment.to_pydatetime(), time) if used and not pd.isna(moment) else None
    return described


def _describe_target(table, training, positive) -> dict:
    target, classes = table.target, list_classes(table)
    described = {"name": target, "classes": classes} | ({"rare_classes": table.rare} if table.rare else {})
    if classes and len(classes) == 2:
        keys = [class_key(label) for label in classes]
        if positive and positive not in keys:
            raise ModelerError(f"positive {positive!r} is no class of {target!r}; its classes are {' and '.join(keys)}")
        rarer = min(classes, key=lambda label: int((training[target] == label).sum()))
        described |= {"positive": classes[keys.index(positive)] if positive else rarer, "threshold": THRESHOLD}
    return described
