"""Classes with too few rows to learn from: refused, left out, or joined to one class."""

from dataclasses import replace

import numpy as np

from modeler import ModelerError, list_names
from modeler.data.columns import feature_type
from modeler.data.rows import TRAINED, find_rare, split_rows
from modeler.data.tables import Table

OTHER = {"number": -1, "category": "other"}  # the label of the joined class, by the type of the target


def settle_rare_classes(
    table: Table, rule: str, holdout: float, split_by: str | None = "", split_time: str | None = ""
) -> Table:
    """Leave out the rows of rare classes ("drop"), or give them one label ("other"); with "refuse", the table as it is.

    `find_rare` says which classes are rare. A ModelerError: fewer than two classes would be left, or the joined class is rare
    itself or exists already.
    """
    if rule == "refuse" or table.task == "regression":
        return table
    dealing = holdout, split_by, split_time
    rare = _list_rare(table, rule, dealing)
    if not rare:
        return table
    target = table.frame[table.target]
    is_rare = target.isin(rare)
    if target.nunique() - len(rare) < (1 if rule == "other" else 2):
        raise ModelerError(
            f"{len(rare)} of the {target.nunique()} classes of {table.target!r} have fewer than {TRAINED} rows to train on or none "
            f"held out, so -p rare_classes={rule} leaves no two classes; bring more rows, or name another target"
        )
    told = f"classes with few rows: {list_names(rare)}, {is_rare.sum()} of {len(target)} rows"
    if rule == "drop":
        frame, told = table.frame[~is_rare].reset_index(drop=True), f"{told}, are left out"
    else:
        frame, label = _join_classes(table, is_rare.to_numpy())
        told = f"{told}, are one class {label!r} now"
    facts = {"rule": rule, "classes": [str(label) for label in rare], "rows": int(is_rare.sum())}
    settled = replace(table, frame=frame, notes=(*table.notes, told), rare=facts)
    if rule == "other" and label in (still := find_rare(settled, split_rows(frame, *dealing))):
        trained, held = still[label]
        raise ModelerError(
            f"even joined, the rare classes of {table.target!r} have {trained} rows to train on and {held} held out, where "
            f"{TRAINED} and 1 are needed; leave them out with -p rare_classes=drop"
        )
    return settled


def _list_rare(table: Table, rule: str, dealing: tuple) -> list:
    """The classes that `find_rare` names. Where their rows go, a boundary in time moves, and others may become rare."""
    rare = list(find_rare(table, split_rows(table.frame, *dealing)))
    kept = table.frame[~table.frame[table.target].isin(rare)]
    if rare and rule == "drop" and dealing[-1] and kept[table.target].nunique() > 1:
        rare += _list_rare(replace(table, frame=kept.reset_index(drop=True)), rule, dealing)
    return rare


def _join_classes(table: Table, is_rare: np.ndarray):
    """The table's frame with one label for the rare classes, and that label, which is of the target's type."""
    target = table.frame[table.target]
    label = OTHER.get(feature_type(target), None)
    if label is None or label in set(target):
        what = "holds booleans" if label is None else f"has a class {label!r} already"
        raise ModelerError(f"{table.target!r} {what}; leave the rare classes out with -p rare_classes=drop")
    return table.frame.assign(**{table.target: target.mask(is_rare, label).astype(target.dtype)}), label
