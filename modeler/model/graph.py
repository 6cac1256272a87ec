"""The ONNX graph with its contract: raw rows in, probabilities or values out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modeler import ModelerError
from modeler.model.amounts import has_texts, read_column, read_value
from modeler.model.answers import decode_answers
from modeler.model.contract import class_key, read_own, used_features
from modeler.model.dates import count_column, count_value, name_parts

MISSING = "(missing)"  # the category of a missing text; SimpleImputer on texts does not convert to ONNX


class Coded(NamedTuple):
    """A long column of few texts: the different values, and the position of each row's among them, an int array (rows,)."""

    values: Sequence
    positions: np.ndarray


class Graph:
    """The graph of a model.onnx, given as path or bytes, with the contract that says what goes in and comes out."""

    def __init__(self, model: Path | bytes, contract: dict):
        onnxruntime = import_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # A graph may name files that hold its numbers: below this folder there are none, and the version's hash would not cover them.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        self.contract = contract
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else read_own(model), options
            )
        except Exception as error:  # onnxruntime's errors share no base class below Exception
            raise ModelerError(f"the graph cannot be loaded: {error}") from None
        self._output = self._session.get_outputs()[-1].name
        self._numbers, self._dates, self._categories = _list_blocks(contract)
        formatted = _list_formatted(contract)
        self._texts = [(position, formatted[name]) for position, name in enumerate(self._numbers) if name in formatted]

    def encode(self, rows: Sequence[Mapping]) -> dict[str, np.ndarray]:
        """Turn raw rows, one mapping each from column name to value, into what `encode_columns` makes of columns.

        For a single row, an array for each column would cost more than the graph. The gate checks that both ways agree.
        """
        inputs = {}
        numbers = [[row[name] for name in self._numbers] for row in rows] if self._numbers or self._dates else []
        for position, feature in self._texts:
            for values in numbers:
                values[position] = read_value(values[position], feature)
        for date in self._dates:
            for values, row in zip(numbers, rows):
                values += count_value(row[date["name"]], date)
        if numbers:
            inputs["numbers"] = np.array(numbers, dtype=np.float32)
        if names := self._categories:
            inputs["categories"] = np.stack([_name_categories([row[name] for row in rows]) for name in names], axis=1)
        return inputs

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities of shape (rows, classes), values (rows,), or value, low and high (rows, 3), in float32."""
        output, target = self._session.run([self._output], inputs)[0], self.contract["target"]
        return output if target["classes"] or "interval" in target else output.reshape(-1)

    def answer(self, rows: Sequence[Mapping]) -> list[dict]:
        """Answer raw rows, given as one mapping a row from column name to value."""
        return decode_answers(self.run(self.encode(rows)), self.contract)


def import_runtime():
    """Import ONNX Runtime, late so that --help stays quick, and without its telemetry.

    From 1.32 on it records every session in the user's home and sends that to its makers, unless this variable is set
    before the import.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def encode_columns(columns: Mapping[str, Sequence], contract: dict) -> dict[str, np.ndarray]:
    """Turn raw columns into the graph's inputs, columns in the order of `used_features`.

    "numbers" is float32 of shape (rows, numbers), with the columns of `name_numbers` and NaN for a missing value;
    "categories" is str objects of shape (rows, categories); such a column may be `Coded`. Dates are datetime64, in UTC, or texts
    as callers send them; so may numbers and booleans be that have a format.
    """
    (numbers, dates, categories), formatted, inputs = _list_blocks(contract), _list_formatted(contract), {}
    read = (read_column(columns[name], formatted.get(name)) for name in numbers)
    counted = [np.asarray(values, dtype=np.float32)[:, None] for values in read]
    counted += [count_column(columns[date["name"]], date) for date in dates]
    if counted:
        inputs["numbers"] = np.concatenate(counted, axis=1)
    if categories:
        inputs["categories"] = np.stack([_name_categories(columns[name]) for name in categories], axis=1)
    return inputs


def name_numbers(contract: dict) -> list[str]:
    """The names of the numbers that a model sees: of the columns that are numbers or booleans, and of the parts of dates."""
    numbers, dates, _ = _list_blocks(contract)
    return numbers + [part for date in dates for part in name_parts(date)]


def _list_blocks(contract: dict) -> tuple[list[str], list[dict], list[str]]:
    """The names of numbers and booleans, the dates, and the names of categories."""
    used = used_features(contract)
    numbers = [feature["name"] for feature in used if feature["type"] in ("number", "boolean")]
    categories = [feature["name"] for feature in used if feature["type"] == "category"]
    return numbers, [feature for feature in used if feature["type"] == "date"], categories


def _list_formatted(contract: dict) -> dict[str, dict]:
    """The numbers and booleans that callers may send as texts too, by name."""
    return {feature["name"]: feature for feature in used_features(contract) if has_texts(feature)}


def _name_categories(values: Sequence | Coded) -> np.ndarray:
    if isinstance(values, Coded):
        return _name_categories(values.values)[values.positions]
    if set(map(type, values)) <= {str, type(None)}:  # the same, four times as fast for a long column
        names = [MISSING if value is None else value for value in values]
    else:
        names = [MISSING if value is None or value != value else class_key(value) for value in values]
    return np.array(names, dtype=object)
