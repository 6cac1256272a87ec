"""The golden rows: every class among them, every difference told."""

from modeler.gate.candidate import choose_golden
from modeler.model.golden import replay_golden

CONTRACT = {"target": {"name": "y", "classes": ["a", "b"], "positive": "b", "threshold": 0.5}}
ROWS = [{"x": 0.1}, {"x": 0.9}]


def answer(rows):
    return [
        {"label": "b" if row["x"] >= 0.5 else "a", "probabilities": {"a": 1 - row["x"], "b": row["x"]}} for row in rows
    ]


def test_every_class_is_among_the_chosen_rows():
    truth = ["common"] * 500 + ["rare"] * 3 + ["middle"] * 100
    chosen = choose_golden(truth)
    assert len(chosen) == 32 and chosen == sorted(set(chosen))
    picked = [truth[position] for position in chosen]
    assert picked.count("rare") == 3 and abs(picked.count("common") - picked.count("middle")) <= 1


def test_fewer_rows_than_wanted_are_all_taken():
    assert choose_golden(["", "", ""]) == [0, 1, 2]


def test_same_answers_leave_nothing_to_say():
    assert replay_golden({"rows": ROWS, "answers": answer(ROWS)}, CONTRACT, answer) == []


def test_difference_names_the_way_the_row_and_both_answers():
    def slip_in_batches(rows):
        return answer(rows) if len(rows) == 1 else answer([row | {"x": row["x"] + 2e-5} for row in rows])

    told = replay_golden({"rows": ROWS, "answers": answer(ROWS)}, CONTRACT, slip_in_batches)
    assert told == [
        "all rows at once, row 0: a (a 0.899980, b 0.100020) instead of a (a 0.900000, b 0.100000)",
        "all rows at once, row 1: b (a 0.099980, b 0.900020) instead of b (a 0.100000, b 0.900000)",
    ]


def test_inverted_label_is_a_difference():
    def invert(rows):
        return [given | {"label": "a" if given["label"] == "b" else "b"} for given in answer(rows)]

    assert len(replay_golden({"rows": ROWS, "answers": answer(ROWS)}, CONTRACT, invert)) == 4
