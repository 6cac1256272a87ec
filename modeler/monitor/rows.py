"""The rows that a model was asked, with its answers, as its prediction log has them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import yaml

from modeler import ModelerError, list_names
from modeler.data.drift import see_column
from modeler.model.answers import VALUES
from modeler.model.contract import class_key, used_features
from modeler.model.stored import CONTRACT, StoredModel, read_note

BLOCK = 1 << 24  # bytes of a log that are parsed at once
KINDS = {"number": pa.float64(), "boolean": pa.bool_(), "category": pa.string(), "date": pa.string()}


@dataclass(frozen=True)
class Rows:
    """Rows as the model saw them, with its answers, in the order of time.

    `values` holds each used column by name, as `see_column` gives it; it is empty where only the answers are known. `outputs` are
    probabilities (rows, classes), or value, low and high (rows, 1 or 3); `labels` the positions of the classes answered, or None.
    `times` are moments in UTC, or None. `keys` are the columns by which labels find their rows, `truth` those that the rows
    brought themselves. `notes` say what was left out.
    """

    values: Mapping[str, np.ndarray]
    outputs: np.ndarray
    labels: np.ndarray | None
    times: np.ndarray | None
    keys: pd.DataFrame
    truth: pd.Series | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.outputs)

    def list_answers(self, chosen: np.ndarray, target: dict) -> list[dict]:
        """The answers of some rows, given by their positions, as `decode_answers` gives them."""
        if self.labels is None:
            return [dict(zip(VALUES, row)) for row in self.outputs[chosen].tolist()]
        keys, classes = [class_key(label) for label in target["classes"]], target["classes"]
        pairs = zip(self.labels[chosen].tolist(), self.outputs[chosen].tolist())
        return [{"label": classes[label], "probabilities": dict(zip(keys, row))} for label, row in pairs]


def open_model(folder: Path | str) -> StoredModel:
    """The model in a folder of the store, by the tag that its model.yaml has."""
    try:
        noted = read_note(Path(folder))
        return StoredModel(f"{noted['name']}:{noted['version']}", Path(folder))
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        raise ModelerError(
            f"{folder} is no model of the store; `bentoml models get NAME:VERSION -o path` shows one"
        ) from None


def read_moment(text: str) -> datetime | None:
    """A moment in UTC of a text in ISO 8601, such as 2026-11-01 or 2026-11-01T06:00+01:00; None of an empty one."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ModelerError(f"{text!r} is no time; give one such as 2026-11-01 or 2026-11-01T06:00") from None
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)


def find_log(folder: Path, name: str) -> Path:
    """The folder with the log of a model's name, below the one that the service was told, or that itself."""
    for path in (folder / name, folder):
        if path.is_dir() and (path != folder or any(path.glob("*.jsonl"))):
            return path
    there = sorted({path.parent.name for path in folder.glob("*/*.jsonl")})
    known = f"; it has logs of {list_names(there)}" if there else ""
    raise ModelerError(
        f"{folder} holds no prediction log of {name}{known}; give the folder of `bentoml serve --arg log=FOLDER`"
    )


def read_log(folder: Path, model: StoredModel, since: datetime | None = None, until: datetime | None = None) -> Rows:
    """The rows that this version answered from `since` on and before `until`.

    Broken lines, as a crash leaves them, and rows of other versions are left out and counted in the notes. A ModelerError: there
    is no log of this name.
    """
    folder, contract = find_log(Path(folder), model.name), model.read(CONTRACT)
    reader = _LogReader(model.tag, contract, since, until)
    files = (path for path in sorted(folder.glob("*.jsonl")) if path.is_file())  # a pipe would be waited for
    parts = [part for path in files for part in reader.read(path)]
    times = np.concatenate([np.zeros(0, "datetime64[us]"), *(part.times for part in parts)])
    order = np.argsort(times, kind="stable")
    empty = reader.convert(reader.schema.empty_table())
    names, parts = list(empty.values), [empty, *parts]
    labels = None if empty.labels is None else np.concatenate([part.labels for part in parts])[order]
    return Rows(
        {name: np.concatenate([part.values[name] for part in parts])[order] for name in names},
        np.concatenate([part.outputs for part in parts])[order],
        labels,
        times[order],
        pd.concat([part.keys for part in parts], ignore_index=True).iloc[order].reset_index(drop=True),
        notes=tuple(reader.list_notes()),
    )


@dataclass
class _LogReader:
    """Reads the lines of one model's version, and counts the others."""

    tag: str
    contract: dict
    since: datetime | None
    until: datetime | None
    broken: int = 0
    others: Counter = field(default_factory=Counter)
    unknown: set = field(default_factory=set)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema({
            "time": pa.string(), "request_id": pa.string(), "row": pa.int64(), "model": pa.string(),
            "features": pa.struct([(f["name"], KINDS[f["type"]]) for f in used_features(self.contract)]),
            "answer": pa.struct(self._list_answer()),
        })  # fmt: skip

    def _list_answer(self) -> list[tuple[str, pa.DataType]]:
        if not (classes := self.contract["target"]["classes"]):
            names = VALUES if "interval" in self.contract["target"] else VALUES[:1]
            return [(name, pa.float64()) for name in names]
        probabilities = pa.struct([(class_key(label), pa.float64()) for label in classes])
        return [("label", pa.array(classes).type), ("probabilities", probabilities)]

    def read(self, path: Path) -> Iterator[Rows]:
        """The rows of a file, in parts."""
        rest = b""
        with open(path, "rb") as file:
            while piece := file.read(BLOCK):
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                yield from self._read_block(whole + newline)
        yield from self._read_block(rest)

    def _read_block(self, block: bytes) -> Iterator[Rows]:
        """The rows of some lines. Where one of them is broken, each half is read by itself."""
        if not block.strip():
            return
        options = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        parse = pa.json.ParseOptions(explicit_schema=self.schema, unexpected_field_behavior="infer")
        try:
            table = pa.json.read_json(pa.BufferReader(block), options, parse)
            part, left_out, unknown = self._choose(table)
        except ValueError:  # Arrow's errors are ValueErrors, and so are those of a text that is no date
            lines = [line for line in block.split(b"\n") if line.strip()]
            whole = [line for line in lines if line.startswith(b"{") and line.rstrip().endswith(b"}")]
            self.broken += len(lines) - len(whole)
            if len(lines) == len(whole) == 1:
                self.broken += 1
            elif len(whole) < len(lines):
                yield from self._read_block(b"\n".join(whole))
            else:
                yield from self._read_block(b"\n".join(whole[: len(whole) // 2]))
                yield from self._read_block(b"\n".join(whole[len(whole) // 2 :]))
            return
        self.others += left_out
        self.unknown |= unknown
        if len(part):
            yield part

    def _choose(self, table: pa.Table) -> tuple[Rows, Counter, set[str]]:
        """The rows of this version and time, how many there are of other versions, and columns that the contract does not know."""
        times = table["time"].cast(pa.timestamp("us", "UTC"))
        here = pc.fill_null(pc.equal(table["model"], self.tag), False)
        for moment, compare in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if moment is not None:
                in_time = compare(times, pa.scalar(moment, times.type))
                here, table, times = (part.filter(in_time) for part in (here, table, times))
        if any(table[name].null_count for name in self.schema.names):
            raise ValueError("a line lacks a part")
        others = table["model"].filter(pc.invert(here))
        known = {feature["name"] for feature in self.contract["features"]}
        table = table.filter(here)
        unknown = {part.name for part in table["features"].type} - known if len(table) else set()
        return self.convert(table), Counter(others.to_pylist()), unknown

    def convert(self, table: pa.Table) -> Rows:
        """The rows of a table of the log's schema."""
        table = table.combine_chunks()
        features, answer, target = _join(table["features"]), _join(table["answer"]), self.contract["target"]
        values = {f["name"]: _see(features.field(f["name"]), f) for f in used_features(self.contract)}
        labels = None
        if target["classes"]:
            labels = pc.index_in(answer.field("label"), pa.array(target["classes"])).to_numpy(zero_copy_only=False)
            answer = answer.field("probabilities")
        outputs = np.stack(
            [answer.field(i).to_numpy(zero_copy_only=False) for i in range(answer.type.num_fields)], axis=1
        )
        if np.isnan(outputs).any() or (labels is not None and np.isnan(labels).any()):
            raise ValueError("an answer is not one of this model")
        labels = None if labels is None else labels.astype(int)
        times = table["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy().astype("datetime64[us]")
        keys = table.select(["request_id", "row"]).to_pandas()
        return Rows(values, outputs.astype(float), labels, times, keys)

    def list_notes(self) -> Iterator[str]:
        """What was left out."""
        if self.broken:
            yield f"broken lines, as a crash leaves them, are left out: {self.broken:,}"
        for tag, rows in sorted(self.others.items()):
            yield f"rows that {tag} answered are left out: {rows:,}; `pipeline.py monitor {tag}` looks at them"
        if self.unknown:
            yield f"columns that the contract does not know are left out: {list_names(sorted(self.unknown))}"


def _join(column: pa.ChunkedArray) -> pa.StructArray:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _see(column: pa.Array, feature: dict) -> np.ndarray:
    """A column of the log as `see_column` gives it."""
    if feature["type"] in ("number", "boolean"):
        numbers = column.cast(pa.uint8()) if feature["type"] == "boolean" else column
        return numbers.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    coded = column.dictionary_encode()
    seen = see_column({feature["name"]: [*coded.dictionary.to_pylist(), None]}, feature)
    return seen[pc.fill_null(coded.indices, len(seen) - 1).to_numpy(zero_copy_only=False)]
