"""A model: how it is stored, asked and compared. It is served, so it imports only numpy and ONNX Runtime."""

from modeler.model.answers import SAME_ANSWER, decode_answers, describe_differences
from modeler.model.contract import class_key, read_contract, used_features, write_json
from modeler.model.graph import Graph

__all__ = [
    "SAME_ANSWER", "Graph", "class_key", "decode_answers", "describe_differences", "read_contract", "used_features", "write_json",
]  # fmt: skip
