"""The scikit-learn Pipeline: its input, its conversion to a graph, its file and its answers."""

import copy
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from modeler import ModelerError
from modeler.inside import interpolate_isotonic, round_thresholds
from modeler.model.answers import decode_answers
from modeler.model.contract import used_features
from modeler.model.graph import encode_columns, name_numbers
from modeler.train.boosters import register_converters
from modeler.train.curve import STEPS, draw_curve
from modeler.train.interval import append_interval

TRUSTED = ("sklearn.", "numpy.")  # modules whose types model.skops may hold: they run no foreign code
RESTORED = {  # the other types it may hold: ours hold numbers and a graph; of other packages, the part that skops restores
    "modeler.train": ("own.OwnColumns", "regressor.IntervalRegressor"),
    "lightgbm": ("basic.Booster", "sklearn.LGBMClassifier", "sklearn.LGBMRegressor"),
    "xgboost": ("core.Booster", "sklearn.XGBClassifier", "sklearn.XGBRegressor"),
    "catboost": ("core.CatBoostClassifier", "core.CatBoostRegressor"),
    "collections": ("OrderedDict",),  # LightGBM keeps scores in one
}


def encode_table(frame: pd.DataFrame, contract: dict) -> pd.DataFrame:
    """Turn raw rows into the input of the scikit-learn Pipeline: the graph's inputs under the data's column names.

    Numbers, booleans and the parts of dates are float32, categories are texts.
    """
    categories = [feature["name"] for feature in used_features(contract) if feature["type"] == "category"]
    names = name_numbers(contract) + categories
    blocks = [pd.DataFrame(block, index=frame.index) for block in encode_columns(frame, contract).values()]
    return pd.concat(blocks, axis=1).set_axis(names, axis=1)


def convert_pipeline(pipeline, X: pd.DataFrame) -> bytes:
    """Convert a scikit-learn Pipeline, fitted on `X`, into the bytes of an ONNX graph with the inputs of `encode_columns`.

    Its first step may be OwnColumns. Its ColumnTransformer may select columns by name; its last step may be a
    TransformedTargetRegressor with `np.log` and `np.exp`. It may stand within an IntervalRegressor. A ModelerError names the
    steps of a Pipeline without a converter.
    """
    from skl2onnx import to_onnx
    from sklearn.base import is_classifier

    from modeler.train.own import OwnColumns

    interval, pipeline = (pipeline, pipeline.regressor_) if hasattr(pipeline, "radii") else (None, pipeline)
    own = pipeline[0] if isinstance(pipeline[0], OwnColumns) else None
    if own:
        pipeline, X = pipeline[1:], own.transform(X[:1])
    positional, inputs = _select_by_position(pipeline, X)
    round_thresholds(positional)
    interpolate_isotonic(draw_curve, STEPS)
    is_log = getattr(positional[-1], "inverse_func", None) is np.exp
    if is_log:
        positional.steps[-1] = ("model", positional[-1].regressor_)
    options = {id(positional): {"zipmap": False}} if is_classifier(positional) else None
    opsets = register_converters(pipeline)
    if own:
        opsets = opsets | {"": own.opset} if opsets else own.opset
    try:
        graph = to_onnx(positional, initial_types=inputs, options=options, target_opset=opsets)
    except Exception as error:  # skl2onnx raises many kinds, some of them plain RuntimeErrors
        steps = ", ".join(type(step).__name__ for step in pipeline.named_steps.values())
        raise ModelerError(
            f"this Pipeline ({steps}) cannot be converted to ONNX: {next(iter(str(error).splitlines()), type(error).__name__)}; "
            "take a step that skl2onnx supports, or one of the estimators the parameter `estimator` offers"
        ) from None
    if interval is not None:
        append_interval(graph.graph, interval.knots, interval.radii, interval.logarithmic)
    elif is_log:
        _append_exponential(graph.graph)
    if own:
        graph = own.prepend(graph)
    _remove_unread(graph.graph)
    graph.opset_import.sort(key=lambda opset: opset.domain)  # their order follows PYTHONHASHSEED otherwise
    return graph.SerializeToString(deterministic=True)


def _select_by_position(pipeline, X: pd.DataFrame) -> tuple:
    """A copy of a Pipeline that selects the columns of `X` by position, as names with spaces do not survive conversion; and
    the types of its inputs."""
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    positional, positions = copy.deepcopy(pipeline), {name: position for position, name in enumerate(X.columns)}
    for step in positional.named_steps.values():
        if hasattr(step, "transformers_"):
            step.transformers_ = [
                (name, part, [positions.get(one, one) for one in columns] if isinstance(columns, list) else columns)
                for name, part, columns in step.transformers_
            ]
    count = int((X.dtypes == np.float32).sum())
    inputs = [("numbers", FloatTensorType, count), ("categories", StringTensorType, X.shape[1] - count)]
    return positional, [(name, kind([None, width])) for name, kind, width in inputs if width]


def _remove_unread(graph) -> None:
    """Remove the constants that no node reads: a vote leaves some, and ONNX Runtime would warn of them at each load."""
    read = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in read]:
        graph.initializer.remove(constant)


def _append_exponential(graph) -> None:
    """Have an ONNX graph answer the exponential of its answer; skl2onnx has no converter for TransformedTargetRegressor."""
    from onnx.helper import make_node

    answer = graph.output[0]
    graph.node.append(make_node("Exp", [answer.name], ["exponential"]))
    answer.name = "exponential"


def load_estimator(path: Path):
    """Load model.skops; a ModelerError names the types in it that are foreign to scikit-learn, numpy and `RESTORED`.

    LightGBM's Booster is restored from its model as a text, XGBoost's from JSON in binary form, CatBoost's from a
    flatbuffer: each package's own reader of its own format, no pickle and no Python code. These readers are native code, like
    ONNX Runtime's, and not made for files that somebody forged to crash them: load models of stores you trust.
    """
    import skops.io

    try:
        foreign = skops.io.get_untrusted_types(file=path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelerError(f"{path.name} cannot be read: {error}") from None
    restored = {f"{module}.{kind}" for module, kinds in RESTORED.items() for kind in kinds}
    if unknown := [name for name in foreign if not name.startswith(TRUSTED) and name not in restored]:
        raise ModelerError(f"{path.name} holds {', '.join(unknown)}; only types of scikit-learn and numpy are loaded")
    try:
        return skops.io.load(path, trusted=foreign)
    except ModuleNotFoundError as error:
        raise ModelerError(f"{path.name} needs the package {error.name}, which is not installed; install it") from None


def answer_with_estimator(estimator, frame, contract: dict) -> list[dict]:
    """Answer raw rows with the scikit-learn Pipeline."""
    X, target = encode_table(frame, contract), contract["target"]
    ask = estimator.predict_proba if target["classes"] else estimator.predict
    return decode_answers(estimator.predict_interval(X) if "interval" in target else ask(X), contract)
