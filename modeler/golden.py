"""The golden rows: raw held-out rows with the estimator's answers, chosen by the gate and replayed at every hop."""

from collections.abc import Callable, Sequence

import numpy as np

from modeler.graph import SAME_ANSWER, describe_differences

ROWS = 32

Answer = Callable[[Sequence[dict]], list[dict]]


def choose_golden(truth: Sequence[str], most: int = ROWS) -> list[int]:
    """Choose up to `most` rows, taking the classes in turn so that a rare one is among them.

    Parameters
    ----------
    truth
        The class of every row, or one same text for all rows of a regression.

    Returns
    -------
    list of int
        Positions in `truth`, in order.
    """
    truth = np.asarray(truth)
    turn = np.zeros(len(truth), dtype=int)
    for key in np.unique(truth):
        turn[truth == key] = np.arange((truth == key).sum())
    return sorted(np.argsort(turn, kind="stable")[:most].tolist())


def replay_golden(golden: dict, contract: dict, answer: Answer) -> list[str]:
    """Answer the golden rows one by one and as one batch, and compare.

    Parameters
    ----------
    golden
        What golden.json holds: `rows`, and the estimator's `answers` to them.
    answer
        Answers a list of rows at the hop in question.

    Returns
    -------
    list of str
        A sentence for every difference; empty where all answers are the same.
    """
    rows, expected = golden["rows"], golden["answers"]
    singly = [given for row in rows for given in answer([row])]
    return [
        f"{way}, {difference}"
        for way, given in (("one row a request", singly), ("all rows at once", answer(rows)))
        for difference in describe_differences(given, expected, contract, SAME_ANSWER)
    ]
