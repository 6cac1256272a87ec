"""The threshold of the positive class, by cross-validated answers."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from modeler import ModelerError
from modeler.train.thresholds import choose_threshold, list_thresholds


def simulate(seed: int, rows: int = 2000, share: float = 0.03, separation: float = 2.0):
    """Whether each row is positive, and a probability that tells it to some extent."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(rows) < share
    return is_positive, 1 / (1 + np.exp(4 - rng.normal(size=rows) - separation * is_positive))


@pytest.mark.parametrize("seed", range(5))
def test_auto_has_the_best_f1_of_all_thresholds(seed):
    is_positive, probability = simulate(seed)
    chosen = choose_threshold("auto", is_positive, probability)
    found, flagged = np.cumsum(is_positive[np.argsort(-probability)]), np.arange(1, 2001)  # from each probability on
    best = (2 * found / (flagged + is_positive.sum())).max()
    assert f1_score(is_positive, probability >= chosen) == pytest.approx(best, abs=0.005)  # it is rounded down
    assert f1_score(is_positive, probability >= chosen) > f1_score(is_positive, probability >= 0.5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_recall_is_kept_by_the_highest_threshold(seed, recall):
    is_positive, probability = simulate(seed)
    chosen = choose_threshold(f"recall:{recall}", is_positive, probability)
    assert recall_score(is_positive, probability >= chosen) >= recall
    assert recall_score(is_positive, probability >= chosen * 1.002) < recall + 1 / is_positive.sum()
    higher = probability[is_positive & (probability > chosen * 1.002)].min()
    assert recall_score(is_positive, probability > higher) < recall


def test_number_is_taken_as_it_is():
    assert choose_threshold("0.25", *simulate(0)) == 0.25 and choose_threshold("0", *simulate(0)) == 0


def test_recall_that_flags_every_row_is_refused_with_the_most_there_is():
    is_positive = np.array([True, True, False, False])
    with pytest.raises(ModelerError, match=r"a recall of 0.9 needs every row .* take at most recall:0.500"):
        choose_threshold("recall:0.9", is_positive, np.array([0.7, 0.0, 0.3, 0.0]))


def test_table_shows_what_each_threshold_would_do():
    is_positive, probability = simulate(1)
    table = list_thresholds(0.07, is_positive, probability)
    assert table["threshold"].is_monotonic_decreasing and table["recall"].is_monotonic_increasing
    assert table["flagged"].is_monotonic_increasing
    (used,) = table[table["meaning"] == "in use"].to_dict("records")
    flagged = probability >= 0.07
    assert used["flagged"] == flagged.mean() and used["precision"] == is_positive[flagged].mean()
    assert {"0.5", "best F1", "recall 0.9"} <= set(table["meaning"])
    assert "0.5, in use" in set(list_thresholds(0.5, is_positive, probability)["meaning"])
