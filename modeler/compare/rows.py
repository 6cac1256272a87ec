"""The rows that no side trained on, of data that are still as they were, and each side's answers to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from modeler import ModelerError, first_line
from modeler.compare.sides import Side
from modeler.data.dialect import CsvFormat
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import find_unseen, hash_table, list_dealing, raw_records, split_rows
from modeler.data.tables import Table, load_table
from modeler.data.timeline import find_later
from modeler.gate.champion import list_dealt
from modeler.model.contract import read_split, used_features
from modeler.model.graph import Graph
from modeler.model.stored import GRAPH


@dataclass(frozen=True)
class Rows:
    """Rows that no side trained on: `frame` without the target, its values in `truth`, and `answers` by side.

    `targets` are those of the contracts, `known` the target's values in training rows. `notes` say of which data the rows are,
    and which sides do not answer them and why. Without data, all are empty but the notes.
    """

    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    truth: list = field(default_factory=list)
    answers: dict[str, list[dict]] = field(default_factory=dict)
    targets: dict[str, dict] = field(default_factory=dict)
    known: np.ndarray = field(default_factory=lambda: np.zeros(0))
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Dealt:
    """A side with its table of today and the rows of it that it held out, one boolean each."""

    side: Side
    table: Table
    heldout: np.ndarray


def answer_rows(sides: Sequence[Side]) -> Rows:
    """Have every side answer the rows that none of them trained on, of the largest table that is as it was."""
    tables, notes = _load_tables(sides)
    if not tables:
        return Rows(
            notes=(*notes, "no data are as they were, so no rows are answered and only recorded scores are shown")
        )
    base = max(tables.values(), key=lambda dealt: len(dealt.table.frame))  # the first of equals
    frame, target = base.table.frame, base.table.target
    placed, unseen = [], np.ones(len(frame), dtype=bool)
    for side in sides:
        try:
            rows = _find_rows(side, tables.get(side.name), base)
        except ModelerError as error:
            notes.append(f"{side.name} is left out of what follows: {error}")
            continue
        placed.append(side)
        unseen &= rows
    notes.append(
        f"none trained on {unseen.sum()} of the {len(frame)} rows of {base.table.name}, which all are asked about"
    )
    shown = frame[unseen].drop(columns=target)
    answers = {}
    for side in placed:
        try:
            answers[side.name] = (
                Graph(side.folder / GRAPH, side.contract).answer(raw_records(shown)) if len(shown) else []
            )
        except Exception as error:  # whatever an older graph does not take
            notes.append(f"{side.name} is left out of what follows: it cannot answer them, {first_line(error)}")
    known = frame.loc[~base.heldout, target].to_numpy()
    targets = {side.name: side.contract["target"] for side in placed if side.name in answers}
    return Rows(shown, frame.loc[unseen, target].tolist(), answers, targets, known, tuple(notes))


def _load_tables(sides: Sequence[Side]) -> tuple[dict[str, _Dealt], list[str]]:
    """The tables that are today as they were, by side, and a sentence for each that is not."""
    tables, notes, loaded = {}, [], {}
    for side in sides:
        told = side.parameters.get("eda.ipynb", {})
        if not told.get("data") or not side.contract:
            continue  # that it lacks these files is told already
        file = side.run / Path(told["data"]).name  # the link there, whatever else a model's files say
        is_file = bool(Path(told["data"]).suffix)
        data = str(file.resolve()) if is_file else told["data"]
        if is_file and not file.exists():
            notes.append(f"the data of {side.name}, {told['data']}, are gone")
            continue
        try:
            key = repr((data, sorted(told.items())))
            if key not in loaded:
                loaded[key] = _load_table(data, told)
            table, sha256, heldout = loaded[key]
        except (ModelerError, KeyError) as error:
            notes.append(f"the data of {side.name}, {told['data']}, cannot be read as they were: {error}")
            continue
        was = side.provenance.get("data", {}).get("sha256")
        if was is None:
            notes.append(f"{side.name} did not note the hash of its data, {told['data']}, which may have changed")
        elif was != sha256:
            notes.append(
                f"the data of {side.name}, {told['data']}, changed: SHA-256 {was[:12]} then, {sha256[:12]} now"
            )
            continue
        tables[side.name] = _Dealt(side, table, heldout)
    return tables, notes


def _load_table(data: str, told: dict) -> tuple[Table, str, np.ndarray]:
    dealing = list_dealing(told)
    table = load_table(data, told.get("target", ""), told.get("task", "auto"), CsvFormat.from_parameters(told))
    table = settle_rare_classes(table, told.get("rare_classes", "refuse"), *dealing)
    return table, hash_table(table.frame), split_rows(table.frame, *dealing)


def _find_rows(side: Side, own: _Dealt | None, base: _Dealt) -> np.ndarray:
    """Which rows of the base's table a side did not train on and can answer, one boolean each.

    The hash deals a row alike in every table with the same columns. Where these changed, a row counts as trained on if its
    values in the columns that stayed stand in a training row of the side's own table. A ModelerError says why there are none.
    """
    if not side.contract or not (side.folder / GRAPH).is_file():
        raise ModelerError("its contract or its graph is missing")
    _check_columns(side, base)
    frame, split = base.table.frame, read_split(side.contract)
    placing = split["time"] or split["by"]
    if own and own.table is base.table:
        unseen = own.heldout
    elif list_dealt(side.contract, placing) == list_dealt(base.side.contract, placing):
        later = split["time"] and find_later(frame, split["time"], split["boundary"])
        unseen = later if split["time"] else split_rows(frame, split["share"], split["by"])
    elif own:
        trained, kinds = own.table.frame[~own.heldout], dict(list_dealt(base.side.contract, None))
        same = [name for name, kind in list_dealt(side.contract, None) if kinds.get(name) == kind]
        unseen = find_unseen(frame, trained, same)
        if split["by"] in same:
            unseen &= find_unseen(frame, trained, [split["by"]])
    else:
        raise ModelerError(
            "its rows were dealt by other columns and its data are not there, so which it trained on is unknown"
        )
    full = [feature["name"] for feature in used_features(side.contract) if not feature["missing"]]
    return unseen & frame[full].notna().all(axis=1).to_numpy()


def _check_columns(side: Side, base: _Dealt) -> None:
    """A ModelerError if the base's table lacks a column that the side uses, or has it as another type."""
    there = {feature["name"]: feature["type"] for feature in base.side.contract["features"]}
    for feature in used_features(side.contract):
        if there.get(feature["name"]) != feature["type"]:
            has = f"has it as a {there[feature['name']]}" if feature["name"] in there else "has none"
            raise ModelerError(
                f"it uses {feature['name']!r} as a {feature['type']}, and the table of {base.side.name} {has}"
            )
