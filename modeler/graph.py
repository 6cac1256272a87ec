"""The ONNX graph: made from a fitted Pipeline, fed with raw rows and read as answers, the same way at every hop.

Answering needs numpy and ONNX Runtime alone, so that the service can do it.
"""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeler import ModelerError
from modeler.contract import class_key, used_features

if TYPE_CHECKING:
    import pandas as pd

MISSING = "(missing)"  # the category of a missing text; SimpleImputer on texts does not convert to ONNX
SAME_ANSWER = 1e-5  # estimator against graph, absolute for probabilities, relative for values


class NotFiniteError(ModelerError):
    """The model answered NaN or Infinity; `rows` are the positions of these answers."""

    def __init__(self, rows: list[int]):
        super().__init__("the model answered NaN or Infinity; train it on data, and with settings, that give numbers")
        self.rows = rows


class Graph:
    """A loaded graph with the contract that says what goes in and what comes out.

    Parameters
    ----------
    model
        Path or bytes of model.onnx.
    contract
        The contract it was trained with.
    """

    def __init__(self, model: Path | bytes, contract: dict):
        onnxruntime = import_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.contract = contract
        try:
            self._session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options)
        except Exception as error:  # onnxruntime's errors share no base class below Exception
            raise ModelerError(f"the graph cannot be loaded: {error}") from None
        self._output = self._session.get_outputs()[-1].name
        self._blocks = _list_blocks(contract)

    def encode(self, rows: Sequence[Mapping]) -> dict[str, np.ndarray]:
        """Turn raw rows, one mapping each from column name to value, into what `encode_columns` makes of columns.

        A second way, because an array a column costs a single row more than the graph does; the gate holds the two alike.
        """
        inputs = {}
        if names := self._blocks.get("numbers"):
            inputs["numbers"] = np.array([[row[name] for name in names] for row in rows], dtype=np.float32)
        if names := self._blocks.get("categories"):
            inputs["categories"] = np.stack([_name_categories([row[name] for row in rows]) for name in names], axis=1)
        return inputs

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities of shape (rows, classes), or values of shape (rows,), in float32."""
        output = self._session.run([self._output], inputs)[0]
        return output if self.contract["target"]["classes"] else output.reshape(-1)

    def answer(self, rows: Sequence[Mapping]) -> list[dict]:
        """Answer raw rows, given as one mapping a row from column name to value."""
        return decode_answers(self.run(self.encode(rows)), self.contract)


def import_runtime():
    """Import ONNX Runtime, late so that --help stays quick, and without its telemetry.

    From 1.32 on it writes down every session in the user's home and sends that to its makers; only this variable, set
    before the import, keeps it from doing so.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def encode_columns(columns: Mapping[str, Sequence], contract: dict) -> dict[str, np.ndarray]:
    """Turn raw columns into the graph's inputs.

    Returns
    -------
    dict
        "numbers", float32 of shape (rows, numbers and booleans), a missing value being NaN, and "categories", str
        objects of shape (rows, categories). Columns are in the order of `used_features`.
    """
    blocks, inputs = _list_blocks(contract), {}
    if names := blocks.get("numbers"):
        inputs["numbers"] = np.stack([np.asarray(columns[name], dtype=np.float32) for name in names], axis=1)
    if names := blocks.get("categories"):
        inputs["categories"] = np.stack([_name_categories(columns[name]) for name in names], axis=1)
    return inputs


def encode_table(frame: "pd.DataFrame", contract: dict) -> "pd.DataFrame":
    """Turn raw rows into what the scikit-learn Pipeline is fitted on: the graph's inputs under the data's column names."""
    import pandas as pd

    names = [feature["name"] for feature in used_features(contract)]
    blocks = [pd.DataFrame(block, index=frame.index) for block in encode_columns(frame, contract).values()]
    return pd.concat(blocks, axis=1).set_axis(names, axis=1)


def convert_pipeline(pipeline, X: "pd.DataFrame") -> bytes:
    """Convert a fitted scikit-learn Pipeline into the bytes of an ONNX graph with the inputs of `encode_columns`.

    Parameters
    ----------
    pipeline
        Fitted on `X`; columns may be selected by name in its ColumnTransformer.
    X
        What `encode_table` returned.

    Raises
    ------
    ModelerError
        When a step has no converter; the message names it.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    is_number = [dtype == np.float32 for dtype in X.dtypes]
    counts = {"numbers": sum(is_number), "categories": len(is_number) - sum(is_number)}
    kinds = {"numbers": FloatTensorType, "categories": StringTensorType}
    positional, positions = copy.deepcopy(pipeline), {name: position for position, name in enumerate(X.columns)}
    for step in positional.named_steps.values():
        if hasattr(step, "transformers_"):  # names with spaces do not survive conversion; positions do
            step.transformers_ = [
                (
                    name,
                    part,
                    [positions.get(column, column) for column in columns] if isinstance(columns, list) else columns,
                )
                for name, part, columns in step.transformers_
            ]
    options = {id(positional): {"zipmap": False}} if hasattr(positional, "classes_") else None
    try:
        graph = to_onnx(
            positional,
            initial_types=[(name, kinds[name]([None, count])) for name, count in counts.items() if count],
            options=options,
        )
    except Exception as error:  # skl2onnx raises many kinds, some of them plain RuntimeErrors
        steps = ", ".join(type(step).__name__ for step in pipeline.named_steps.values())
        raise ModelerError(
            f"this Pipeline ({steps}) cannot be converted to ONNX: {str(error).splitlines()[0]}; "
            "take a step that skl2onnx supports, or one of the estimators the parameter `estimator` offers"
        ) from None
    graph.opset_import.sort(key=lambda opset: opset.domain)  # their order follows PYTHONHASHSEED otherwise
    return graph.SerializeToString(deterministic=True)


def decode_answers(output: np.ndarray, contract: dict) -> list[dict]:
    """Turn probabilities or values into answers as the API gives them, without warnings.

    Two classes are decided by the contract's threshold, more by the greatest probability; within `SAME_ANSWER` the
    positive class and the first class win, so that a forest's even vote is decided alike at every hop.

    Parameters
    ----------
    output
        Probabilities of shape (rows, classes), columns in the order of the contract's classes, or values (rows,).
    """
    target = contract["target"]
    finite = np.isfinite(output)
    if not finite.all():
        raise NotFiniteError(np.flatnonzero(~finite.reshape(len(output), -1).all(axis=1)).tolist())
    if not target["classes"]:
        return [{"value": value} for value in np.asarray(output, dtype=float).tolist()]
    probabilities = np.asarray(output, dtype=float).round(7)
    probabilities = np.minimum(np.maximum(probabilities, 0), 1).tolist()  # float32 sums can end at 1.0000001
    classes, keys = target["classes"], [class_key(label) for label in target["classes"]]
    if "positive" in target:
        positive = classes.index(target["positive"])
        chosen = [
            positive if row[positive] >= target["threshold"] - SAME_ANSWER else 1 - positive for row in probabilities
        ]
    else:
        chosen = [next(index for index, p in enumerate(row) if p >= max(row) - SAME_ANSWER) for row in probabilities]
    return [
        {"label": classes[index], "probabilities": dict(zip(keys, row))} for index, row in zip(chosen, probabilities)
    ]


def describe_differences(
    given: Sequence[dict], expected: Sequence[dict], contract: dict, tolerance: float
) -> Iterable[str]:
    """Yield one sentence for each row whose answer is not the same within the tolerance.

    A label may differ only where its two best probabilities, or the positive one and the threshold, are closer than that.
    Values are compared relative to the expected value or, where that is smaller, to the median size of the expected
    ones: near zero a float32 has no more to give.
    """
    if len(given) != len(expected):
        yield f"{len(given)} answers for {len(expected)} rows"
        return
    target = contract["target"]
    size = 0.0 if target["classes"] else float(np.median([abs(answer["value"]) for answer in expected]))
    for row, (ours, theirs) in enumerate(zip(given, expected)):
        if ("value" in ours) != ("value" in theirs):
            same = False
        elif target["classes"]:
            same = _is_same_label(ours, theirs, target, tolerance)
        else:
            same = abs(ours["value"] - theirs["value"]) <= tolerance * max(size, abs(theirs["value"]))
        if not same:
            yield f"row {row}: {_show(ours)} instead of {_show(theirs)}"


def _is_same_label(ours: dict, theirs: dict, target: dict, tolerance: float) -> bool:
    if ours["probabilities"].keys() != theirs["probabilities"].keys():
        return False
    if any(
        not abs(ours["probabilities"][key] - theirs["probabilities"][key]) <= tolerance
        for key in theirs["probabilities"]
    ):
        return False
    if ours["label"] == theirs["label"]:
        return True
    if "positive" in target:
        return abs(theirs["probabilities"][class_key(target["positive"])] - target["threshold"]) <= tolerance
    second, best = sorted(theirs["probabilities"].values())[-2:]
    return best - second <= tolerance


def _show(answer: dict) -> str:
    if "value" in answer:
        return f"{answer['value']:.7g}"
    return f"{class_key(answer['label'])} ({', '.join(f'{key} {p:.6f}' for key, p in answer['probabilities'].items())})"


def _list_blocks(contract: dict) -> dict[str, list[str]]:
    used = used_features(contract)
    numbers = [feature["name"] for feature in used if feature["type"] != "category"]
    categories = [feature["name"] for feature in used if feature["type"] == "category"]
    return {block: names for block, names in (("numbers", numbers), ("categories", categories)) if names}


def _name_categories(values: Sequence) -> np.ndarray:
    names = [MISSING if value is None or value != value else class_key(value) for value in values]
    return np.array(names, dtype=object)
