"""Rows of a file instead of a log: any table that has what the model uses, or what `score` wrote."""

import csv
import io
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from modeler import ModelerError, did_you_mean, list_names
from modeler.data.columns import feature_type
from modeler.data.dialect import SEPARATORS, CsvFormat
from modeler.data.drift import see_column
from modeler.data.reading import explain_parquet, find_format, read_csv, read_parquet
from modeler.model.amounts import has_texts
from modeler.model.answers import VALUES, decide_classes, decode_answers
from modeler.model.contract import class_key, read_split, used_features
from modeler.model.graph import Graph, encode_columns
from modeler.model.stored import CONTRACT, GRAPH, StoredModel
from modeler.monitor.rows import Rows

PIECE = 1 << 16  # rows that the graph answers at once
TIME = "time"  # the column of times where the contract names none


def read_table(path: Path, model: StoredModel, since: datetime | None = None, until: datetime | None = None) -> Rows:
    """The rows of a .csv or .parquet file, from `since` on and before `until`, with the model's answers.

    A file without any column that the model uses must hold answers, as `score` writes them. The target, if the file has it, is
    what came true. A ModelerError: the file cannot be read, or its columns do not fit the contract.
    """
    path, contract = Path(path), model.read(CONTRACT)
    frame, notes = _read_frame(path, model, contract)
    times = _find_times(frame, contract)
    if times is None and (since or until):
        split = read_split(contract)["time"]
        raise ModelerError(
            f"{path} has no dates in a column {split or TIME!r}, so its rows have no time; leave out since and until"
        )
    if times is not None:
        chosen = np.ones(len(frame), dtype=bool)
        for moment, compare in ((since, np.greater_equal), (until, np.less)):
            if moment is not None:
                chosen &= compare(times, np.datetime64(moment.replace(tzinfo=None), "us"))
        order = np.flatnonzero(chosen)[np.argsort(times[chosen], kind="stable")]
        if lost := int(np.isnat(times[order]).sum()):
            order = order[: len(order) - lost]  # numpy sorts them last
            notes.append(f"{lost:,} rows without a time are left out")
        frame, times = frame.iloc[order].reset_index(drop=True), times[order]
    used, target = used_features(contract), contract["target"]
    names = [feature["name"] for feature in used]
    held = [name for name in names if name in frame]
    answers = _find_answers(frame, contract)
    if not held and answers is None or 0 < len(held) < len(names):
        missing = next(name for name in names if name not in frame)
        raise ModelerError(
            f"{path} lacks {missing!r}, which the model uses{did_you_mean(missing, frame.columns)}; give all of "
            f"{list_names(names)}, or what `score` wrote of them with --keep all"
        )
    if not held:
        notes.append("the file has answers alone; `score --keep all` keeps the columns to compare them too")
    values = _see_columns(path, frame, used) if held else {}
    outputs, labels = answers or _answer(frame, Graph(model.path / GRAPH, contract))
    truth = frame[target["name"]] if target["name"] in frame else None
    keys = frame.drop(columns=[name for name in [*names, target["name"], *VALUES, "label"] if name in frame])
    return Rows(values, outputs, labels, times, keys, truth, tuple(notes))


def _read_frame(path: Path, model: StoredModel, contract: dict) -> tuple[pd.DataFrame, list[str]]:
    """The table with columns of the contract's types; others stay texts."""
    provenance = model.read("provenance.json") if (model.path / "provenance.json").exists() else {"parameters": {}}
    told = CsvFormat.from_parameters(provenance["parameters"].get("eda.ipynb", {}))
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ModelerError(f"{path} ends in {path.suffix or 'nothing'}; rows stand in a .csv or .parquet file")
    read = read_csv if path.suffix.lower() == ".csv" else read_parquet
    try:
        names = _list_names(path, told)
        content = read(path, replace(told, columns=_settle(told.columns, names, contract)))
    except OSError as error:
        raise ModelerError(f"{path} cannot be read: {error.strerror or error}; allow us to read it") from None
    except ModelerError as error:
        raise ModelerError(str(error).replace("columns makes", f"of {path}, the contract makes", 1)) from None
    return content.frame, list(content.notes)


def _list_names(path: Path, told: CsvFormat) -> list[str]:
    """The names of a file's columns, by its head alone."""
    if path.suffix.lower() == ".parquet":
        with explain_parquet(path):
            return pyarrow.parquet.read_schema(path).names
    encoding, _, separator = find_format(path, told)
    head = pd.read_csv(path, sep=SEPARATORS[separator], encoding=encoding, skipinitialspace=True, nrows=0, dtype=str)
    return list(head.columns)


def _settle(told: str, names: list[str], contract: dict) -> str:
    """The types of a file's columns as the parameter `columns` has them: first those that a person told for training."""
    kept = [part for part in next(csv.reader([told], skipinitialspace=True), []) if part.rpartition("=")[0] in names]
    free = set(names) - {part.rpartition("=")[0] for part in kept}
    used = {f["name"]: f["type"] for f in used_features(contract) if f["type"] != "date" and not has_texts(f)}
    used |= {name: "category" for name in (contract["target"]["name"], "label") if contract["target"]["classes"]}
    text = io.StringIO()
    csv.writer(text).writerow([*kept, *(f"{name}={used[name]}" for name in names if name in free & used.keys())])
    return text.getvalue().strip()


def _find_times(frame: pd.DataFrame, contract: dict) -> np.ndarray | None:
    name = read_split(contract)["time"] or TIME
    if name not in frame or feature_type(frame[name]) != "date":
        return None
    return frame[name].to_numpy().astype("datetime64[us]")


def _see_columns(path: Path, frame: pd.DataFrame, used: list[dict]) -> dict[str, np.ndarray]:
    try:
        return {feature["name"]: see_column(frame, feature) for feature in used}
    except (ValueError, TypeError) as error:
        raise ModelerError(
            f"the values of {path} do not fit the model: {error}; mend them, or see `pipeline.py score`"
        ) from None


def _find_answers(frame: pd.DataFrame, contract: dict) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The answers that `score` wrote, if they are there and none is empty."""
    if not (classes := contract["target"]["classes"]):
        names = [name for name in VALUES if name in frame]
        if "value" not in names or frame[names].isna().any(axis=None):
            return None
        return frame[names].to_numpy(dtype=float), None
    keys = [class_key(label) for label in classes]
    names = [f"probability:{key}" for key in keys]
    if not {*names, "label"} <= set(frame) or frame[[*names, "label"]].isna().any(axis=None):
        return None
    positions = {key: position for position, key in enumerate(keys)}
    positions |= {
        key.capitalize(): position for key, position in positions.items() if isinstance(classes[position], bool)
    }
    labels = frame["label"].map(lambda label: positions.get(class_key(label)))
    return None if labels.isna().any() else (frame[names].to_numpy(dtype=float), labels.to_numpy(dtype=int))


def _answer(frame: pd.DataFrame, graph: Graph) -> tuple[np.ndarray, np.ndarray | None]:
    target = graph.contract["target"]
    parts = [frame[start : start + PIECE] for start in range(0, len(frame), PIECE)]
    output = [graph.run(encode_columns(part, graph.contract)) for part in parts]
    if not output:
        width = len(target["classes"] or VALUES[: 3 if "interval" in target else 1])
        return np.zeros((0, width)), np.zeros(0, dtype=int) if target["classes"] else None
    if target["classes"]:
        return decide_classes(np.concatenate(output), graph.contract)
    answers = decode_answers(np.concatenate(output), graph.contract)
    return np.array([list(answer.values()) for answer in answers]), None
