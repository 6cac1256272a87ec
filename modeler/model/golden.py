"""The golden rows, replayed at every hop: raw held-out rows with the estimator's own answers."""

from collections.abc import Callable, Sequence

from modeler.model.answers import SAME_ANSWER, describe_differences


def replay_golden(golden: dict, contract: dict, answer: Callable[[Sequence[dict]], list[dict]]) -> list[str]:
    """Answer the rows of golden.json one by one and as one batch, and return a sentence for every difference."""
    rows, expected = golden["rows"], golden["answers"]
    singly = [given for row in rows for given in answer([row])]
    return [
        f"{way}, {difference}"
        for way, given in (("one row a request", singly), ("all rows at once", answer(rows)))
        for difference in describe_differences(given, expected, contract, SAME_ANSWER)
    ]
