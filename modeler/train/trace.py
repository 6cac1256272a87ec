"""From a person's functions of columns to a step of the Pipeline, with a sentence about each that cannot become one."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from modeler import ModelerError, did_you_mean, list_names
from modeler.model.answers import SAME_ANSWER
from modeler.train.traced import NotTraceable, TracedArray

ALONE = 100  # rows at most that are also computed one by one
NOISE = 1e-9  # share of a column's largest value; results that differ by less are the same
INSTEAD = "write it with operators and NumPy's functions of whole arrays, such as np.log, np.where or np.maximum"


def trace_columns(
    own_columns: Mapping[str, Callable], X: pd.DataFrame, contract: dict
) -> tuple[list[tuple[str, object]], list[str]]:
    """Trace functions of columns into the first step of a Pipeline, in a list that is empty where there are none.

    A function takes `c`, whose items are the numeric columns of `X`, arrays of shape (rows,), and returns such an array or
    booleans. Infinity, NaN and what a float32 cannot hold become null. `X` are the training rows as `encode_table` makes
    them. The list of sentences says what each column holds there. A ModelerError: a name is taken, a function uses what
    is no numeric column, returns no such array, cannot be traced, or gives a row another value at another call or alone.

    The items hold float32 numbers as float64, and so the graph computes: ONNX Runtime's logarithm of a float32 may differ in
    its last bit between one row and many, and a tree may split just there (measured: in 1 of 10 tables of 407 rows).
    """
    if not own_columns:
        return [], ["no columns of your own"]
    import ndonnx as ndx

    from modeler.train.own import OwnColumns

    _check_names(own_columns, X, contract)
    numbers = X.select_dtypes("float32")
    argument = ndx.argument(shape=("rows", numbers.shape[1]), dtype=ndx.float32)
    doubled, traced, given = argument.astype(ndx.float64), [], {}
    for name, function in own_columns.items():
        symbols = _Columns(name, X, contract, lambda place: TracedArray(doubled[:, place]))
        values = _Columns(name, X, contract, lambda place: numbers.iloc[:, place].to_numpy(np.float64))
        result = _call(name, function, symbols)
        given[name] = _check_result(name, _call(name, function, values), len(X))
        if not isinstance(result, TracedArray):
            raise ModelerError(f"own column {name!r} is not made of the columns of `c`, and a request has nothing else")
        traced.append(result.array)
    step = OwnColumns(list(own_columns), _build_graph(argument, traced))
    _check_calls(step, numbers, given)
    _check_alone(step, numbers)
    return [("own", step)], [_describe_values(name, values, X.index) for name, values in given.items()]


class _Columns:
    """What a function is called with: an array for the name of a numeric column, a ModelerError for any other."""

    def __init__(self, own: str, X: pd.DataFrame, contract: dict, take: Callable[[int], object]):
        self._own, self._X, self._contract, self._take = own, X, contract, take
        self._names = list(X.select_dtypes("float32"))

    def __getitem__(self, name):
        if name not in self._names:
            raise ModelerError(f"own column {self._own!r} uses {self._describe(name)}")
        return self._take(self._names.index(name))

    def _describe(self, name) -> str:
        dropped = {feature["name"]: feature["reason"] for feature in self._contract["features"] if not feature["used"]}
        if name == self._contract["target"]["name"]:
            return f"the target {name!r}, which nobody knows when a prediction is made; leave it out"
        if name in list(self._X):
            return f"{name!r}, which holds categories; only columns of numbers and booleans can be computed with"
        if name in dropped:
            return f"{name!r}, which the model does not use: {dropped[name]}; only used columns can be computed with"
        near, known = did_you_mean(str(name), self._names), list_names(self._names) or "none"
        return f"{name!r}, which is not a column{near}; the columns to compute with are {known}"


def _check_names(own_columns, X: pd.DataFrame, contract: dict) -> None:
    if not isinstance(own_columns, Mapping):
        raise ModelerError(f"own_columns must be a dict of name to function, got: {type(own_columns).__name__}")
    target, named = contract["target"]["name"], {feature["name"] for feature in contract["features"]}
    for name, function in own_columns.items():
        if not isinstance(name, str) or not name.strip():
            raise ModelerError(f"a column of your own must be named by a text, got: {name!r}")
        if name == target or name in named or name in X.columns:
            whose = "the target" if name == target else "a column of the data"
            raise ModelerError(f"own column {name!r} has the name of {whose}; give it another one")
        if not callable(function):
            got = type(function).__name__
            raise ModelerError(f"own column {name!r} must be a function, such as lambda c: c[…] / c[…], got: {got}")


def _call(name: str, function: Callable, columns: _Columns):
    with np.errstate(all="ignore"):
        try:
            return function(columns)
        except ModelerError:
            raise
        except NotTraceable as error:
            raise ModelerError(f"own column {name!r} cannot be traced because of {error}; {INSTEAD}") from None
        except Exception as error:  # whatever a person's own code raises
            raise ModelerError(f"own column {name!r} fails with {type(error).__name__}: {error}") from None


def _check_result(name: str, result, rows: int) -> np.ndarray:
    """The values that a function gave, in float64 of shape (rows,)."""
    values = result if isinstance(result, np.ndarray) else np.asarray(result, dtype=object)
    if values.shape != (rows,):
        got = f"an array of shape {values.shape}" if values.ndim else f"one {type(result).__name__}"
        raise ModelerError(
            f"own column {name!r} gives {got} for {rows} rows; it must give an array of one number a row"
        )
    if values.dtype.kind not in "biuf":
        raise ModelerError(f"own column {name!r} gives values of type {values.dtype}; it must give numbers or booleans")
    return values.astype(np.float64)


def _build_graph(numbers, traced: list) -> bytes:
    """The graph of the numbers with the traced columns behind them, null where these have no value."""
    import ndonnx as ndx

    own = ndx.stack([array.astype(ndx.float32) for array in traced], axis=1)
    own = ndx.where(ndx.isinf(own), ndx.asarray(np.float32(np.nan)), own)
    model = ndx.build({"numbers": numbers}, {"widened": ndx.concat([numbers, own], axis=1)})
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True)


def _fit_float32(values: np.ndarray) -> np.ndarray:
    """Values as the graph gives them."""
    with np.errstate(all="ignore"):
        fitting = values.astype(np.float32)
    return np.where(np.isinf(fitting), np.float32(np.nan), fitting)


def _check_calls(step, numbers: pd.DataFrame, given: Mapping[str, np.ndarray]) -> None:
    """Refuse a function whose graph gives other values than its call."""
    traced = step.compute(numbers.to_numpy())
    expected = np.stack([_fit_float32(values) for values in given.values()], axis=1)
    for name, row, ours, theirs in _list_differences(traced, expected, numbers.index, step.columns):
        raise ModelerError(
            f"own column {name!r} gives {theirs:.6g} in row {row} when called, and {ours:.6g} when traced; a row must always "
            "give the same value, so use the columns of `c` and nothing random"
        )


def _check_alone(step, numbers: pd.DataFrame) -> None:
    """Refuse a function that gives a row another value alone than among others."""
    places = np.unique(np.linspace(0, len(numbers) - 1, ALONE).astype(int))
    rows, index = numbers.iloc[places].to_numpy(), numbers.index[places]
    alone = np.concatenate([step.compute(rows[[place]]) for place in range(len(rows))])
    for name, row, ours, theirs in _list_differences(alone, step.compute(rows), index, step.columns):
        raise ModelerError(
            f"own column {name!r} gives {theirs:.6g} in row {row} among {len(rows)} rows, and {ours:.6g} if it is alone, as in "
            "a request; write a sum, mean or greatest value of the training rows as a number"
        )


def _list_differences(ours: np.ndarray, theirs: np.ndarray, index: pd.Index, names: list[str]):
    """The first difference in each column: its name, the row, and the two values, of arrays of shape (rows, columns)."""
    for name, first, second in zip(names, ours.T, theirs.T, strict=True):
        noise = NOISE * np.nanmax(np.abs(second), initial=0)
        same = np.isclose(first, second, rtol=SAME_ANSWER, atol=noise, equal_nan=True)
        if not same.all():
            place = np.argmin(same)
            yield name, index[place], first[place], second[place]


def _describe_values(name: str, values: np.ndarray, index: pd.Index) -> str:
    """What a column holds in the training rows; a ModelerError where that is nothing."""
    fitting = _fit_float32(values)
    missing, infinite = np.isnan(fitting), np.isnan(fitting) & ~np.isnan(values)
    if missing.all():
        raise ModelerError(f"own column {name!r} is null in all {len(values)} training rows; mend it, or leave it out")
    low, high = np.nanmin(fitting), np.nanmax(fitting)
    told = f"own column {name!r}: {low:.4g} to {high:.4g}, null in {missing.sum()} of {len(values)} training rows"
    if infinite.any():
        place = np.argmax(infinite)
        told += f", {infinite.sum()} of them for {values[place]:.4g} and the like, first in row {index[place]}"
    if low == high:
        told += "; it is constant there, so the model learns nothing from it"
    return told
