"""Whether what a person chose for train.ipynb fits the target: class weights and the logarithm."""

from collections.abc import Sequence

import numpy as np

from modeler import UsageError

BALANCED_BY = {"lightgbm": {"class_weight": "balanced"}, "catboost": {"auto_class_weights": "Balanced"}}


def takes_weights(estimator: str, classes: list) -> bool:
    """Whether a classifier can weigh its classes; scikit-learn's gradient boosting cannot, XGBoost of two classes alone."""
    return estimator != "gradient_boosting" and not (estimator == "xgboost" and len(classes) > 2)


def balance_classes(estimator: str, y: np.ndarray) -> dict:
    """The settings by which LightGBM, XGBoost or CatBoost weigh each class by the inverse of its rows, as "balanced" does."""
    if estimator != "xgboost":
        return BALANCED_BY[estimator]
    first, second = np.unique(y, return_counts=True)[1]
    return {"scale_pos_weight": float(first / second)}


def check_class_weight(class_weight: str, estimator: str, classes: list | None, target: str) -> None:
    """Raise a UsageError if classes are to be weighed where there are none, or by an estimator that cannot."""
    if class_weight != "balanced":
        return
    if not classes:
        raise UsageError(
            f"-p class_weight=balanced: only classes have a weight, and {target!r} has values; leave it out"
        )
    if not takes_weights(estimator, classes):
        what = f"{estimator} cannot weigh {'more than two ' if estimator == 'xgboost' else ''}classes"
        raise UsageError(f"-p class_weight=balanced: {what}; take another estimator, such as hist_gradient_boosting")


def check_transform(transform: str, y: Sequence, classes: list | None, target: str) -> None:
    """Raise a UsageError unless the target is values that all have a logarithm."""
    if transform != "log":
        return
    if classes:
        raise UsageError(
            f"-p target_transform=log: only values have a logarithm, and {target!r} has classes; leave it out"
        )
    y = np.asarray(y)
    if len(refused := y[~(y > 0)]):
        held = f"{target!r} holds {refused[0]:.6g}" + f" and {len(refused) - 1} more up to 0" * (len(refused) > 1)
        raise UsageError(f"-p target_transform=log: only values above 0 have a logarithm, and {held}; leave it out")
