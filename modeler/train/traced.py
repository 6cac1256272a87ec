"""An array without values: what operators and NumPy's functions do to it becomes a part of an ONNX graph."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class NotTraceable(Exception):
    """The message names the operation that has no place in a graph."""


def _refuse(operation: str) -> Callable:
    def refuse(array, *_, **__):
        raise NotTraceable(operation)

    return refuse


class TracedArray(NDArrayOperatorsMixin):
    """A column of a graph to be, around an array of ndonnx, which knows the functions of the array API standard.

    NumPy hands over its own functions (NEP 13 and 18), so that one text, such as `np.log(c["x"])`, serves arrays with values
    and this one. What needs values, or has no part in the standard, is a NotTraceable.
    """

    def __init__(self, array):
        self.array = array

    def __array_ufunc__(self, function, method, *given, **settings):
        if method != "__call__":
            raise NotTraceable(f"{_name(function)}.{method}")
        return _apply(function, given, settings)

    def __array_function__(self, function, types, given, settings):
        return _apply(function, given, settings)

    def __array_namespace__(self, **_):
        return np

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotTraceable(f".{name}")

    __array__ = _refuse("a function that takes the values out, as np.asarray does")
    __bool__ = _refuse("if, and, or, not, min() or max()")
    __float__ = __int__ = __index__ = __complex__ = _refuse("float(), int() or a function of the math module")
    __iter__ = __len__ = _refuse("a loop or len()")
    __getitem__ = __setitem__ = _refuse("an index in square brackets")
    __round__ = _refuse("round()")


def _apply(function, given: tuple, settings: dict) -> TracedArray:
    operation = _list_operations().get(function)
    if operation is None:
        raise NotTraceable(_name(function))
    if any(isinstance(one, np.ndarray) and one.ndim for one in given):
        raise NotTraceable("an array that is no column of `c`")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ndonnx warns of a float64 that ONNX Runtime would compute as a float32
        try:
            return TracedArray(operation(*_unwrap(given), **settings))
        except Exception:  # ndonnx and spox raise many kinds, and name their own functions
            kinds = [str(one.array.dtype) if isinstance(one, TracedArray) else type(one).__name__ for one in given]
            raise NotTraceable(f"{_name(function)} of {' and '.join([*kinds, *settings])}") from None


def _list_operations() -> dict[Callable, Callable]:
    """The functions of ndonnx by those of NumPy that bear the same name, which is the standard's."""
    import ndonnx as ndx

    same = {getattr(np, name): getattr(ndx, name) for name in dir(ndx) if callable(getattr(np, name, None))}

    def where(condition, *values):  # ndonnx takes no two plain numbers
        return ndx.where(condition, *(ndx.asarray(float(v)) if isinstance(v, int | float) else v for v in values))

    def steady(wave):  # the last bits, all that is left near zero, may differ between one row and many
        return ndx.round(wave * 2.0**40) / 2.0**40

    waves = {np.sin: lambda x: steady(ndx.sin(x)), np.cos: lambda x: steady(1 - 2 * ndx.sin(x / 2) ** 2)}
    return same | waves | {np.where: where}  # ONNX Runtime has no cosine in float64


def _unwrap(given):
    if isinstance(given, list | tuple):
        return [_unwrap(one) for one in given]
    return given.array if isinstance(given, TracedArray) else given


def _name(function) -> str:
    name = getattr(function, "__name__", str(function))
    return f"np.{name}" if getattr(np, name, None) is function else name
