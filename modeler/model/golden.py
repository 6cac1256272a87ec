"""The golden rows, replayed at every hop: raw held-out rows with the estimator's own answers."""

from collections.abc import Callable, Sequence

from modeler.model.answers import SAME_ANSWER, describe_differences

Answer = Callable[[Sequence[dict]], list[dict]]


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
