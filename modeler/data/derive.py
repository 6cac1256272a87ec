"""Deriving the contract from a table, first in eda.ipynb and again in the gate."""

import numpy as np
import pandas as pd

from modeler import ModelerError
from modeler.data.columns import (
    count_words,
    describe_leak,
    feature_type,
    is_date,
    is_identifier,
    measure_association,
    plain_value,
)
from modeler.data.tables import Table
from modeler.model.contract import class_key

NEARLY_EMPTY = 0.95  # share of missing training values from which a column is dropped
THRESHOLD = 0.5  # lowest probability that answers the positive class, until train.ipynb sets another


def derive_contract(
    table: Table, training: pd.DataFrame, min_association: float, holdout: float, split_by: str = "", positive: str = ""
) -> dict:
    """Derive the contract of a table from its `training` rows; all rows decide only whether null is allowed.

    A column with an association below `min_association`, 0 to 1, is dropped. Of two classes, `positive` is the one to look
    for, by default the rarer one. The contract notes `holdout` and `split_by`, so that train.ipynb and the gate split the
    rows in the same way. A ModelerError: the target has only one class, `positive` is not a class, or no column is left.
    """
    frame, target, features = table.frame, table.target, []
    described_target = _describe_target(table, training, positive)
    for name in frame.columns.drop(target):
        association = measure_association(training[name], training[target], table.task)
        leak = describe_leak(frame[name], frame[target])
        reason = _reason_to_drop(name, training, features, association, min_association, split_by, leak)
        features.append(_describe_feature(frame[name], training[name], association, reason))
    if not any(feature["used"] for feature in features):
        raise ModelerError(
            f"no column of {table.name} has an association of {min_association} or more with {target!r}; "
            "lower min_association, or bring data that say more about the target"
        )
    return {
        "name": table.name,
        "task": table.task,
        "target": described_target,
        "features": features,
        "rows": len(frame),
        **({"rows_without_target": table.left_out} if table.left_out else {}),
        "holdout": {"share": holdout, "split_by": split_by or None},
    }


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


def _reason_to_drop(name, training, earlier, association, min_association, split_by, leak) -> str | None:
    column = training[name]
    present = column.dropna()
    if name == split_by:
        return "groups the rows (--split-by), so it would give the hold-out away"
    if present.empty or column.isna().mean() >= NEARLY_EMPTY:
        return f"nearly empty: {column.isna().mean():.0%} missing"
    if is_date(present):
        return "a date; dates are not used yet"
    if present.nunique() == 1:
        return f"constant: always {present.iloc[0]}"
    if leak:
        return f"{leak}, so it would give the answer away"
    if words := count_words(present):
        return f"free text: {words:.0f} words in the middle one"
    if is_identifier(name, present):
        return f"identifier-like: {present.nunique()} different values in {len(present)} rows"
    for feature in earlier:
        if feature["used"] and training[feature["name"]].equals(column):
            return f"duplicate of {feature['name']}"
    if association < min_association:
        return f"association {association:.3f} is below {min_association}"
    return None


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
        feature |= {"min": plain_value(present.min()), "max": plain_value(present.max())}
    elif kind == "boolean":
        feature |= {"categories": [False, True]}
    elif reason is None:
        feature |= {"categories": sorted(present.unique())}
    else:  # the texts of a dropped column, such as names of patients, stay private
        return feature | {"example": None}
    return feature | {"example": plain_value(training.iloc[0])}


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
