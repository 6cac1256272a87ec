"""LightGBM, XGBoost and CatBoost where they are installed: made for a table, and converted to ONNX."""

import importlib
import importlib.util

import numpy as np

from modeler import ModelerError
from modeler.inside import round_down

NEEDS = {  # the modules of each; pyproject.toml has an extra of the same name
    "lightgbm": ("lightgbm", "onnxmltools"),
    "xgboost": ("xgboost", "onnxmltools"),
    "catboost": ("catboost",),
}
CLASSES = {"lightgbm": "LGBM", "xgboost": "XGB", "catboost": "CatBoost"}
FIXED = {  # silent, and the same trees from any number of threads
    "lightgbm": {"deterministic": True, "force_row_wise": True, "verbose": -1},
    "xgboost": {"verbosity": 0},
    "catboost": {"verbose": False, "allow_writing_files": False, "bootstrap_type": "Bernoulli"},
}
TREES = {"ai.onnx.ml": 3}  # the operators that onnxmltools and CatBoost write were replaced in version 5


def list_boosters(estimator: str, built_in: bool) -> list[str]:
    """The ones to train: the one named, or with `auto` all that are installed.

    For the built-in data `auto` takes none, so that they give the same model whatever is installed.
    """
    check_installed(estimator)
    if estimator in NEEDS:
        return [estimator]
    return [name for name in NEEDS if estimator == "auto" and not built_in and not _list_absent(name)]


def check_installed(estimator: str) -> None:
    """Raise a ModelerError that names the extra if the estimator is one of these and lacks a package."""
    if absent := _list_absent(estimator):
        raise ModelerError(
            f"estimator={estimator} needs the package {absent[0]}, which is not installed; "
            f"run `pip install -e '.[{estimator}]'` in the project's folder"
        )


def make_booster(name: str, classes: list | None, numbers: int, categories: int, threads: int | None, settings: dict):
    """An estimator for so many numbers, NaN among them, followed by so many categories.

    Categories are codes (0, 1, 2 … or NaN) for LightGBM and XGBoost, which split them into sets. For CatBoost they are
    columns of zeros and ones: it cannot export its own categories to ONNX. A classifier stands in a vote of one, in which
    scikit-learn numbers the classes; XGBoost takes 0, 1, 2 … alone, and CatBoost turns booleans into texts.
    """
    from sklearn.ensemble import VotingClassifier

    try:
        package = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ModelerError(f"{name} is installed but cannot be imported: {str(error).splitlines()[0]}") from None
    told = {"thread_count" if name == "catboost" else "n_jobs": threads or 1}
    if name == "lightgbm" and categories:
        told["cat_feature"] = list(range(numbers, numbers + categories))  # by its other name LightGBM warns each time
    if name == "xgboost" and categories:
        told |= {"feature_types": ["q"] * numbers + ["c"] * categories, "enable_categorical": True}
    kind = f"{CLASSES[name]}{'Classifier' if classes else 'Regressor'}"
    booster = getattr(package, kind)(**FIXED[name], **told, **settings)
    return VotingClassifier([(name, booster)], voting="soft", flatten_transform=False) if classes else booster


def register_converters(pipeline) -> dict[str, int] | None:
    """Tell skl2onnx how to convert the boosters in a Pipeline; the versions of the operators, None if it holds none."""
    from skl2onnx import get_latest_tested_opset_version, update_registered_converter
    from skl2onnx.common import shape_calculator

    parts = {type(part) for part in pipeline.get_params().values()}
    found = {part: name for part in parts if (name := part.__module__.partition(".")[0]) in NEEDS}
    for part, name in found.items():
        is_classifier = part.__name__.endswith("Classifier")
        task, options = (
            ("classifier", {"zipmap": [True, False], "nocl": [True, False]}) if is_classifier else ("regressor", {})
        )
        shapes = getattr(shape_calculator, f"calculate_linear_{task}_output_shapes")
        options |= {"split": None} if name == "lightgbm" and not is_classifier else {}
        update_registered_converter(part, part.__name__, shapes, CONVERTERS[name], options=options)
    return {"": get_latest_tested_opset_version(), **TREES} if found else None


def _convert_lightgbm(scope, operator, container) -> None:
    """Convert by onnxmltools, with thresholds rounded down to a float32.

    LightGBM splits at `x <= threshold`, midway between two values, in float64. Rounded to the nearest float32, a threshold
    may become the value of another row, which then goes the other way. Rounded down, every float32 goes the same way.
    """
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    add = container.add_node

    def add_rounded(*given, **attributes):
        if "nodes_values" in attributes:
            attributes["nodes_values"] = round_down(np.array(attributes["nodes_values"])).tolist()
        add(*given, **attributes)

    container.add_node = add_rounded
    try:
        convert_lightgbm(scope, operator, container)
    finally:
        container.add_node = add


def _convert_xgboost(scope, operator, container) -> None:
    """Convert by onnxmltools; XGBoost compares float32 with float32, so nothing needs to be rounded."""
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    convert_xgboost(scope, operator, container)


def _convert_catboost(scope, operator, container) -> None:
    """Put the trees of CatBoost's own export into the graph; its borders are float32."""
    from catboost.utils import convert_to_onnx_object
    from onnx.helper import get_attribute_value

    trees = convert_to_onnx_object(operator.raw_operator).graph.node[0]  # a second one would make dicts of the answers
    attributes = {attribute.name: get_attribute_value(attribute) for attribute in trees.attribute}
    name, outputs = scope.get_unique_operator_name("trees"), operator.output_full_names
    container.add_node(trees.op_type, operator.input_full_names, outputs, trees.domain, name=name, **attributes)


CONVERTERS = {"lightgbm": _convert_lightgbm, "xgboost": _convert_xgboost, "catboost": _convert_catboost}


def _list_absent(estimator: str) -> list[str]:
    return [module for module in NEEDS.get(estimator, ()) if not importlib.util.find_spec(module)]
