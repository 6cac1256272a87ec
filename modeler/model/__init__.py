"""A model: how it is stored, asked and compared. It is served, so it imports only numpy and ONNX Runtime."""

from importlib import import_module

from modeler.model.contract import class_key, read_contract, read_split, used_features, write_json

__all__ = [
    "SAME_ANSWER", "Graph", "class_key", "decode_answers", "describe_differences", "read_contract", "read_split",
    "used_features", "write_json",
]  # fmt: skip


def __getattr__(name: str):
    """Import what needs numpy once it is asked for; BentoML's parent process reads no more than the contract."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'graph' if name == 'Graph' else 'answers'}"), name)
