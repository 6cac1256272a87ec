"""The interval around each value: how wide it must be, its part of the graph, and what it covers."""

import math
from collections.abc import Sequence

import numpy as np

from modeler import ModelerError
from modeler.train.curve import STEPS, draw_curve

MOST_ERRORS = 20_000  # rows that train.ipynb draws for cross-validation
ROWS_PER_KNOT, MOST_KNOTS = 50, 10  # of the curve that says how wide the interval of a value is
BY_CHANCE = 0.01  # probability that the interval of a sound model covers less of the hold-out than `least_coverage`


def add_interval(pipeline, truth: np.ndarray, guessed: np.ndarray, level: float):
    """The regression Pipeline, not fitted yet, with an interval around each answer that holds the share `level` of true values.

    `guessed` holds the answers of cross-validation to the rows of `truth`. Of a Pipeline that is fitted to the logarithm, the
    interval is one of the logarithm: it is a factor around the value, and `low` stays above 0. See `measure_radii`.
    """
    from modeler.train.regressor import IntervalRegressor

    logarithmic = getattr(pipeline[-1], "inverse_func", None) is np.exp
    if logarithmic:
        truth, guessed = np.log(truth), np.log(guessed)
    return IntervalRegressor(pipeline, *measure_radii(truth, guessed, level), logarithmic)


def measure_radii(truth: np.ndarray, guessed: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """How far from a model's answer the truth lies at most in the share `level` of all rows: a curve over the answer.

    It is given by knots: ascending answers and the radius there; between two of them it is straight, outside it is level.

    Each row was answered by a model that did not see it (cross-conformal prediction: V. Vovk, Annals of Mathematics and
    Artificial Intelligence 74, 2015). Its error is divided by the mean error of rows with a like answer, so that the
    interval is wide where errors are great (normalised conformal prediction: H. Papadopoulos et al., ECAI 2008; J. Lei et al.,
    JASA 113, 2018). The radius is the ceil((n + 1) level)-th smallest quotient times that mean. The curve rises and falls by no
    more than the answer does, so `low` and `high` never fall while the answer rises, and a float32 cannot tear the
    graph's interval from the estimator's.

    The interval lies around the one model fitted on all rows. CV+ (R. Barber et al., Annals of Statistics 49, 2021) guarantees
    a coverage of 1 - 2 (1 - level) whatever the model, but has to ask the model of every fold; this costs nothing to serve and
    is right as far as the models of the folds err like the one of all rows. Of intervals of 90 %, these covered 89.2 to 91.0 % and
    those of CV+ 90.2 to 98.3 %, up to 2.5 times as wide; of the fifth with the greatest answers, these covered 73.1 % or more,
    and with one radius for all 58.7 % or more (`python benchmarks/intervals.py 40`: normal, heteroscedastic, log-normal, count
    and no signal; 200 and 1,000 rows; ridge, extra trees and a tree that learns its rows by heart). The gate tests the coverage
    on the hold-out.

    A ModelerError: there are too few rows for this level.
    """
    check_rows(level, len(truth))
    errors, wanted = np.abs(truth - guessed), math.ceil((len(truth) + 1) * level - 1e-9)
    parts = np.array_split(np.argsort(guessed, kind="stable"), min(max(len(truth) // ROWS_PER_KNOT, 1), MOST_KNOTS))
    knots, first = np.unique([guessed[part].mean() for part in parts], return_index=True)
    spread = np.array([errors[part].mean() for part in parts])[first]
    if not spread.any():
        return knots, spread
    spread = np.maximum(spread, spread.max() / 1e6)
    factor = np.sort(errors / np.interp(guessed, knots, spread))[wanted - 1]
    if factor > 0:  # no steeper than the answer itself; that lifts some of it and so can only lessen the factor
        spread = np.max(spread[:, None] - np.abs(knots[:, None] - knots) / factor, axis=0)
    factor = np.sort(errors / np.interp(guessed, knots, spread))[wanted - 1]
    return knots, factor * spread


def check_rows(level: float, rows: int) -> None:
    """Raise a ModelerError if so few errors do not say how far off the share `level` of all rows is."""
    least = math.ceil(level / (1 - level) - 1e-9)
    if rows < least:
        raise ModelerError(
            f"an interval of {level:g} needs {least} rows to train on, and there are {rows}; "
            "take a lower one, or bring more rows"
        )


def append_interval(graph, knots: np.ndarray, radii: np.ndarray, logarithmic: bool) -> None:
    """Have an ONNX graph of values answer value, low and high, shape (rows, 3); see `measure_radii`.

    With `logarithmic`, the graph's own answer is a logarithm, and what comes out are values.
    """
    from onnx import TensorProto
    from onnx.helper import make_node, make_tensor_value_info
    from onnx.numpy_helper import from_array

    def add(kind: str, *inputs: str, **settings) -> str:
        name = f"interval_{len(graph.node)}"
        graph.node.append(make_node(kind, inputs, [name], **settings))
        return name

    constants = draw_curve(knots, radii) | {"column": np.array([-1, 1], dtype=np.int64)}
    for name, constant in constants.items():
        graph.initializer.append(from_array(constant, f"interval_{name}"))
    value = radius = add("Reshape", graph.output[0].name, "interval_column")
    for kind, *others in STEPS:
        radius = add(kind, radius, *(f"interval_{other}" for other in others))
    low, high = add("Sub", value, radius), add("Add", value, radius)
    if logarithmic:
        value, low, high = (add("Exp", end) for end in (value, low, high))
    low, high = add("Min", value, low), add("Max", value, high)  # an exponential may be off by a last digit
    answer = add("Concat", value, low, high, axis=1)
    del graph.output[:]
    graph.output.append(make_tensor_value_info(answer, TensorProto.FLOAT, [None, 3]))


def score_intervals(answers: Sequence[dict], truth: Sequence[float]) -> dict[str, float]:
    """The share of true values that lie within the interval of their answer, and how wide the interval is (median)."""
    low, high = (np.array([answer[end] for answer in answers]) for end in ("low", "high"))
    return {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "interval_width": float(np.median(high - low)),
    }


def least_coverage(level: float, trained: int, held: int) -> float:
    """The least share of `held` rows within their intervals that chance explains, in 99 of 100 models whose intervals are sound.

    Of an interval made of `trained` errors, the coverage is itself a matter of chance: Beta(k, trained + 1 - k) with
    k = ceil((trained + 1) level) (V. Vovk, Conditional validity of inductive conformal predictors, 2012), so the number of rows
    covered is beta-binomial (A. Angelopoulos and S. Bates, Conformal Prediction, 2023, section 3.2).
    """
    from scipy.stats import betabinom

    trained = min(trained, MOST_ERRORS)
    wanted = min(math.ceil((trained + 1) * level - 1e-9), trained)
    return float(betabinom.ppf(BY_CHANCE, held, wanted, trained + 1 - wanted)) / held
