"""Too good to be true: columns, and sums or differences of two, that alone give the target."""

import numpy as np
import pandas as pd

from modeler.data.association import code_target, draw_rows, measure_gini, order_values
from modeler.data.columns import feature_type

LEAK = {"classification": 0.99, "regression": 0.998}  # 2 AUC - 1, or correlation, from which the target is given away
PAIR_LEAK = {"classification": 0.995, "regression": 0.999}  # the same of a pair: half the faults of a column alone
FEWEST_ROWS = 10  # of a class (or of numbers); fewer can be told apart by chance
SCREENED = 2000  # sums and differences that are glanced at, those most correlated with the target
GLANCE, NEAR, NEAREST = 500, 0.95, 40  # rows of the glance, and the score and number of those looked at in all rows


def find_leaks(training: pd.DataFrame, target: str, task: str) -> list[dict]:
    """Warn of each column, and each sum or difference of two, that gives the target of a row by the other rows.

    `training` holds the target and the columns that a model may use. A row is answered by its nearest neighbours in
    the column (leave-one-out; T. Cover and P. Hart, IEEE Transactions on Information Theory 13, 1967), which is right
    again and again only where there is no noise. Of several classes each must be given. Sums and differences are of
    two columns that do not give the target alone.
    """
    frame = draw_rows(training, target, task).reset_index(drop=True)
    counts = frame[target].value_counts() if task == "classification" else pd.Series([len(frame)])
    if counts.min() < FEWEST_ROWS:
        return []
    values = code_target(frame[target], task)
    alone = {name: _ask_neighbours(frame[name], values, task) for name in frame.columns.drop(target)}
    given = [name for name, found in alone.items() if found >= LEAK[task]]
    warnings = [_warn(target, [name], repr(name)) for name in given]
    numbers = [name for name in alone if name not in given and feature_type(frame[name]) == "number"]
    numbers = frame[numbers].astype("float64")
    for first, second, sign in _screen_pairs(numbers, frame[target], task):
        found = _ask_neighbours(numbers[first] + sign * numbers[second], values, task)
        if found >= PAIR_LEAK[task]:
            made = f"{'the sum' if sign > 0 else 'the difference'} of {first!r} and {second!r}"
            warnings.append(_warn(target, [first, second], made))
    return warnings


def _warn(target, columns, made) -> dict:
    names = ",".join('"' + name.replace('"', '""') + '"' if set(name) & set(',"') else name for name in columns)
    message = (
        f"{made} alone gives the target {target!r}: is it known when the prediction is made? "
        f"If not, leave it out with -p leave_out={names!r}"
    )
    return {"kind": "leak", "columns": columns, "message": message}


def _ask_neighbours(column, values, task) -> float:
    """How well each row's target is given by the rows before and after it, in the order of the column; up to 1."""
    order = np.nan_to_num(order_values(column), nan=2)
    shuffled = np.random.default_rng(0).permutation(len(order))  # equal values stand in no order
    values = values[shuffled[np.argsort(order[shuffled], kind="stable")]]
    answers = np.concatenate([values[1:2], (values[:-2] + values[2:]) / 2, values[-2:-1]])
    if task == "regression":
        return float(np.corrcoef(answers[:, 0], values[:, 0])[0, 1]) if values.std() and answers.std() else 0.0
    found = []
    for answer, value in zip((2 * answers).astype(int).T, values.T):
        hits, counts = np.bincount(answer, value, 3), np.bincount(answer, minlength=3)
        found.append(measure_gini(np.arange(3), hits, counts))
    return min(found)


def _screen_pairs(numbers: pd.DataFrame, target: pd.Series, task: str) -> list[tuple[str, str, int]]:
    """The sums and differences that order a few rows almost as the target does, by names and sign."""
    firsts, seconds = np.triu_indices(numbers.shape[1], 1)
    if not len(firsts):
        return []
    firsts, seconds, signs = np.tile(firsts, 2), np.tile(seconds, 2), np.repeat([1, -1], len(firsts))
    between, total = _measure_spread(numbers.fillna(numbers.mean()).to_numpy(), target, task)
    above, below = (
        np.diag(spread)[firsts] + np.diag(spread)[seconds] + 2 * signs * spread[firsts, seconds]
        for spread in (between, total)
    )
    kept = np.argsort(above / np.maximum(below, 1e-12 * np.diag(total).max()), kind="stable")[-SCREENED:]
    few = draw_rows(target.to_frame(), target.name, task, GLANCE)
    values = numbers.loc[few.index].to_numpy()
    scores = _glance(values[:, firsts[kept]] + signs[kept] * values[:, seconds[kept]], few[target.name], task)
    nearest = [place for place in np.argsort(-scores, kind="stable")[:NEAREST] if scores[place] >= NEAR]
    names = numbers.columns
    return [(names[firsts[place]], names[seconds[place]], signs[place]) for place in kept[nearest]]


def _measure_spread(numbers: np.ndarray, target, task) -> tuple[np.ndarray, np.ndarray]:
    """The covariance that goes with the target, and the whole covariance; classes weigh alike."""
    values = code_target(target, task)
    if task == "regression":
        numbers, values = numbers - numbers.mean(axis=0), (values - values.mean()) / values.std()
        shared = values.T @ numbers / len(numbers)
        return shared.T @ shared, numbers.T @ numbers / len(numbers)
    if values.shape[1] == 1:
        values = np.column_stack([1 - values, values])
    means = values.T @ numbers / values.sum(axis=0)[:, None]
    numbers, means = numbers - means.mean(axis=0), means - means.mean(axis=0)
    weights = values @ (1 / values.sum(axis=0)) / values.shape[1]
    return means.T @ means / values.shape[1], (numbers * weights[:, None]).T @ numbers


def _glance(made: np.ndarray, target, task) -> np.ndarray:
    """How well each column orders the target: the share of its ranks' variance that goes with it, of the highest
    possible."""
    ranks = pd.DataFrame(made).rank(pct=True).to_numpy()
    ranks = np.nan_to_num(ranks - np.nanmean(ranks, axis=0))
    total = np.maximum((ranks**2).sum(axis=0), 1e-12)
    if task == "regression":
        order = target.rank().to_numpy()
        order = order - order.mean()
        return (order @ ranks) ** 2 / (order @ order) / total
    classes = np.eye(target.nunique())[pd.factorize(target)[0]]
    rows = classes.sum(axis=0)
    highest = 1 - (rows**3 - rows).sum() / (len(target) ** 3 - len(target))
    return ((classes.T @ ranks) ** 2 / rows[:, None]).sum(axis=0) / total / highest
