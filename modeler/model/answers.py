"""Answers: how they are read from the graph's output and compared with others, the same way at every hop."""

from collections.abc import Iterable, Sequence

import numpy as np

from modeler import ModelerError
from modeler.model.contract import class_key

VALUES = ("value", "low", "high")  # the last two where the contract has an interval
SAME_ANSWER = 1e-5  # estimator against graph, absolute for probabilities, relative for values


class NotFiniteError(ModelerError):
    """The model answered NaN or Infinity; `rows` are the positions of these answers."""

    def __init__(self, rows: list[int]):
        super().__init__("the model answered NaN or Infinity; train it on data, and with settings, that give numbers")
        self.rows = rows


def decode_answers(output: np.ndarray, contract: dict) -> list[dict]:
    """Turn probabilities or values into answers as the API gives them, without warnings.

    The output holds probabilities of shape (rows, classes), in the order of the contract's classes, or values (rows,), or
    where the contract has an interval, value, low and high (rows, 3).
    Two classes are decided by the contract's threshold, more by the greatest probability. Within `SAME_ANSWER` the
    positive class or the first class wins, so that a forest's even vote is decided alike at every hop.
    """
    target = contract["target"]
    finite = np.isfinite(output)
    if not finite.all():
        raise NotFiniteError(np.flatnonzero(~finite.reshape(len(output), -1).all(axis=1)).tolist())
    if "interval" in target:
        return [dict(zip(VALUES, row)) for row in np.asarray(output, dtype=float).reshape(-1, len(VALUES)).tolist()]
    if not target["classes"]:
        return [{"value": value} for value in np.asarray(output, dtype=float).tolist()]
    probabilities = np.asarray(output, dtype=float).round(7)
    probabilities = np.minimum(np.maximum(probabilities, 0), 1).tolist()  # float32 sums can end at 1.0000001
    classes, keys = target["classes"], [class_key(label) for label in target["classes"]]
    if "positive" in target:
        positive = classes.index(target["positive"])
        lowest = target["threshold"] - SAME_ANSWER
        chosen = [positive if row[positive] >= lowest else 1 - positive for row in probabilities]
    else:
        chosen = [next(index for index, p in enumerate(row) if p >= max(row) - SAME_ANSWER) for row in probabilities]
    labels = [classes[index] for index in chosen]
    return [{"label": label, "probabilities": dict(zip(keys, row))} for label, row in zip(labels, probabilities)]


def decide_classes(output: np.ndarray, contract: dict) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities (rows, classes) and the position of each row's class, as `decode_answers` gives them, for many rows.

    For a single row, arrays would cost a third more. tests/test_score.py holds the two to each other.
    """
    finite, target = np.isfinite(output).all(axis=1), contract["target"]
    if not finite.all():
        raise NotFiniteError(np.flatnonzero(~finite).tolist())
    probabilities = np.clip(np.asarray(output, dtype=float).round(7), 0, 1)
    if "positive" in target:
        positive = target["classes"].index(target["positive"])
        lowest = target["threshold"] - SAME_ANSWER
        return probabilities, np.where(probabilities[:, positive] >= lowest, positive, 1 - positive)
    best = probabilities.max(axis=1, keepdims=True) - SAME_ANSWER
    return probabilities, (probabilities >= best).argmax(axis=1)


def describe_differences(
    given: Sequence[dict], expected: Sequence[dict], contract: dict, tolerance: float
) -> Iterable[str]:
    """Yield one sentence for each row whose answer is not the same within the tolerance.

    A label may differ only if its two best probabilities, or the positive one and the threshold, are that close.
    Values are compared relative to the expected value or, if that is smaller, to the median size of the expected ones:
    a float32 is no more precise near zero. The ends of an interval are compared like their value, or relative to themselves.
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
            same = _is_same_value(ours, theirs, size, tolerance)
        if not same:
            yield f"row {row}: {_show(ours)} instead of {_show(theirs)}"


def _is_same_value(ours: dict, theirs: dict, size: float, tolerance: float) -> bool:
    names = [name for name in VALUES if name in ours or name in theirs]
    return all(name in ours and name in theirs for name in names) and all(
        abs(ours[name] - theirs[name]) <= tolerance * max(size, abs(theirs["value"]), abs(theirs[name]))
        for name in names
    )


def _is_same_label(ours: dict, theirs: dict, target: dict, tolerance: float) -> bool:
    given, expected = ours["probabilities"], theirs["probabilities"]
    if given.keys() != expected.keys() or not all(abs(given[key] - expected[key]) <= tolerance for key in expected):
        return False
    if ours["label"] == theirs["label"]:
        return True
    if "positive" in target:
        return abs(expected[class_key(target["positive"])] - target["threshold"]) <= tolerance
    second, best = sorted(expected.values())[-2:]
    return best - second <= tolerance


def _show(answer: dict) -> str:
    if "value" in answer:
        ends = f" ({answer['low']:.7g} to {answer['high']:.7g})" if "low" in answer else ""
        return f"{answer['value']:.7g}{ends}"
    return f"{class_key(answer['label'])} ({', '.join(f'{key} {p:.6f}' for key, p in answer['probabilities'].items())})"
