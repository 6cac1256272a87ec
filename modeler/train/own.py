"""Columns of a person's own as the first step of a Pipeline, and in front of the graph of its other steps."""

from functools import lru_cache

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from modeler.model.graph import import_runtime

PREFIX = "own_"  # of the names in the graph, which those of the other steps must not meet


class OwnColumns(TransformerMixin, BaseEstimator):
    """Adds columns of a person's own to the numbers of `encode_table`: numbers, own columns, categories.

    `columns` are their names. `graph` is what `trace_columns` made of the functions: the bytes of an ONNX graph, "numbers"
    in, "widened" out. So model.skops holds no function, and the same graph computes in every Pipeline and every service.
    """

    def __init__(self, columns: list[str], graph: bytes):
        self.columns, self.graph = columns, graph

    def get_params(self, deep=True) -> dict:
        """The names alone: a notebook that shows the Pipeline would show all bytes of the graph."""
        return {"columns": self.columns}

    def __sklearn_clone__(self) -> "OwnColumns":
        return self  # there is nothing to fit

    def fit(self, X, y=None) -> "OwnColumns":
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """`X` with the own columns behind its float32 columns; null where they have no value."""
        is_number = X.dtypes == np.float32
        numbers = X.loc[:, is_number]
        own = pd.DataFrame(self.compute(numbers.to_numpy()), X.index, self.columns)
        return pd.concat([numbers, own, X.loc[:, ~is_number]], axis=1)

    def compute(self, numbers: np.ndarray) -> np.ndarray:
        """The own columns of numbers of shape (rows, numbers), in float32 of shape (rows, own columns)."""
        (widened,) = _open(self.graph).run(None, {"numbers": numbers})
        return widened[:, numbers.shape[1] :]

    @property
    def opset(self) -> int:
        """The version of ONNX's operators in the graph, which the graph of the other steps must have, too."""
        return next(entry.version for entry in self._load().opset_import if not entry.domain)

    def prepend(self, graph):
        """The ONNX graph of the other steps with this one in front: its input is that of `encode_columns`."""
        from onnx import compose

        first = self._load()
        first.ir_version = graph.ir_version
        first = compose.add_prefix(first, PREFIX, rename_inputs=False)
        del first.opset_import[:]  # the other graph has the same, and the whole would have it twice
        return compose.merge_models(first, graph, io_map=[(f"{PREFIX}widened", "numbers")])

    def _load(self):
        from onnx import load_from_string

        return load_from_string(self.graph)


@lru_cache(maxsize=4)
def _open(graph: bytes):
    """A session of the graph; it is no attribute of the step, since copies and model.skops cannot hold it."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options)
