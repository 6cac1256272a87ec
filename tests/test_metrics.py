"""Metrics: the same figures as scikit-learn's, and bounds that are checked before a kernel starts."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from modeler import ModelerError, UsageError
from modeler.gate.bounds import check_bounds
from modeler.model.answers import decode_answers
from modeler.train.confidence import _rank_precision, _take_medians, measure_intervals
from modeler.train.metrics import (
    Gain,
    compare_recorded,
    compare_values,
    encode_classes,
    find_middle,
    measure_errors,
    measure_interval,
    measure_roc_auc,
    resample_roc_auc,
    resample_rows,
    score_answers,
    stack_probabilities,
    weigh_better,
    weigh_worse,
)

ROOT = Path(__file__).resolve().parent.parent


def make_answers(classes, rows=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(classes), size=rows, p=np.arange(1, len(classes) + 1) / sum(range(1, len(classes) + 1)))
    odds = 1 + np.eye(len(classes))[truth]
    votes = 1 + rng.multinomial(16, odds / odds.sum(axis=1, keepdims=True))
    probabilities = votes / votes.sum(axis=1, keepdims=True)
    target = {"name": "y", "classes": classes}
    if len(classes) == 2:
        target |= {"positive": classes[1], "threshold": 0.5}
    answers = decode_answers(probabilities, {"target": target})
    return answers, [classes[code] for code in truth], target, probabilities, truth


@pytest.mark.parametrize("classes", [["benign", "malignant"], ["a", "b", "c"], [0, 1], [False, True]])
def test_scores_of_classes_equal_those_of_scikit_learn(classes):
    answers, truth, target, probabilities, codes = make_answers(classes)
    scores = score_answers(answers, truth, target)
    labels = [answer["label"] for answer in answers]
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, labels))
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, labels))
    assert scores["f1_macro"] == pytest.approx(metrics.f1_score(truth, labels, average="macro"))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(codes, probabilities))
    ranked = probabilities[:, 1] if len(classes) == 2 else probabilities
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(codes, ranked, multi_class="ovr"))
    for label in classes:
        key = label if isinstance(label, str) else str(label).lower()
        assert scores[f"recall:{key}"] == pytest.approx(
            metrics.recall_score(truth, labels, labels=[label], average="macro")
        )
        assert scores[f"precision:{key}"] == pytest.approx(
            metrics.precision_score(truth, labels, labels=[label], average="macro")
        )


def test_scores_of_values_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50)
    values = truth + rng.normal(size=50)
    scores = score_answers([{"value": value} for value in values], truth, {"name": "y", "classes": None})
    assert scores == {
        "r2": pytest.approx(metrics.r2_score(truth, values)),
        "mae": pytest.approx(metrics.mean_absolute_error(truth, values)),
        "rmse": pytest.approx(metrics.root_mean_squared_error(truth, values)),
    }


def test_metric_that_is_undefined_is_none():
    answers, truth, target, *_ = make_answers(["a", "b"], rows=10)
    scores = score_answers(answers, ["a"] * 10, target)
    assert scores["roc_auc"] is None and scores["recall:b"] is None and scores["recall:a"] is not None


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_weighted_roc_auc_equals_scikit_learn_with_ties(classes):
    _, _, _, probabilities, codes = make_answers(classes)
    weights = np.random.default_rng(1).integers(0, 3, size=(5, len(codes))).astype(float)
    for weighting, area in zip(weights, measure_roc_auc(probabilities, codes, weights)):
        kinds = [1] if len(classes) == 2 else range(len(classes))
        expected = [metrics.roc_auc_score(codes == k, probabilities[:, k], sample_weight=weighting) for k in kinds]
        assert area == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_resampled_roc_auc_is_that_of_the_rows_drawn(classes):
    answers, truth, target, probabilities, codes = make_answers(classes, rows=60)
    kinds = [1] if len(classes) == 2 else range(len(classes))
    for weights, area in zip(next(resample_rows(codes))[:20], resample_roc_auc([answers], truth, target)[0]):
        drawn = np.repeat(np.arange(60), weights)
        assert (np.bincount(codes[drawn]) == np.bincount(codes)).all()  # every class keeps its size
        expected = [metrics.roc_auc_score(codes[drawn] == k, probabilities[drawn, k]) for k in kinds]
        assert area == pytest.approx(np.mean(expected))


def test_resamples_are_many_seeded_and_different():
    first, again = (np.concatenate(list(resample_rows(np.zeros(30), 500))) for _ in range(2))
    assert (first == again).all() and first.shape == (500, 30)
    assert len(np.unique(first, axis=0)) == 500 and first.mean(axis=0) == pytest.approx(1, abs=0.25)


def test_interval_of_an_undefined_metric_is_refused():
    assert measure_interval(np.arange(41.0)) == (1.0, 39.0)
    with pytest.raises(ModelerError, match="undefined on the held-out rows; raise holdout or bring more rows"):
        measure_interval(np.array([0.5, np.nan]))


# --- the rule for values


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "log-normal", "count"])
def test_rule_for_values_errs_in_at_most_five_of_a_hundred_cases_of_200_rows(name):
    """The simulation of benchmarks/values.py, where forty rows are held out; a few points are allowed for chance."""
    simulate = runpy.run_path(str(ROOT / "benchmarks" / "values.py"))["simulate"]
    for question, passed in simulate(name, 200, 100, forest=False).items():
        if question.startswith("better than a dummy, useful"):
            assert passed >= 95, question
        elif question.startswith("better than a dummy, useless"):
            assert passed <= 5, question
        elif question.startswith("not-worse, equal"):
            assert passed >= 94, question
        elif question.startswith(("not-worse, useless", "better, equal")):
            assert passed <= 9, question  # at most 6 of 100 in 1,000 cases, see the benchmark
        else:
            assert passed >= 40, question


def test_rank_correlation_and_paired_errors_are_those_of_scipy():
    rng = np.random.default_rng(0)
    truth = rng.poisson(3, size=60).astype(float)
    ours, theirs = truth + rng.normal(size=60), truth + 2 * rng.normal(size=60)
    order, error = compare_values(ours, theirs, truth, truth)
    assert order.ours == pytest.approx(stats.spearmanr(truth, ours).statistic)
    assert order.theirs == pytest.approx(stats.spearmanr(truth, theirs).statistic)
    lost = [measure_errors(values, truth, truth) for values in (theirs, ours)]
    low, high = stats.ttest_rel(*lost).confidence_interval()
    assert (error.low, error.high) == pytest.approx((low / lost[0].mean(), high / lost[0].mean()))
    assert (order.unit, error.unit) == ("difference", "share it takes off")
    low, high = find_middle(truth)
    assert error.measure == f"mean absolute error from {low:.4g} to {high:.4g}"


def test_interval_of_a_correlation_alone_is_that_of_bonett_and_wright():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    ours = truth + rng.normal(size=40)
    order = compare_values(ours, np.zeros(40), truth, truth)[0]
    reach = 1.96 * np.sqrt((1 + order.ours**2 / 2) / 37)
    expected = np.tanh(np.arctanh(order.ours) + np.array([-reach, reach]))
    assert (order.low, order.high) == pytest.approx(expected, abs=1e-4)


def test_interval_of_the_difference_of_correlations_holds_the_truth_in_95_of_100():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        z, shared, one, other = rng.normal(size=(4, 60))
        ours, theirs = z + shared + 0.5 * one, z + shared + 0.5 * other
        order = compare_values(ours, theirs, z, z)[0]
        held += order.low <= 0 <= order.high
    assert 370 <= held <= 396


def test_tail_of_the_truth_decides_nothing_and_nonsense_stays_visible():
    known = np.arange(101.0)
    truth, values = np.array([50.0, 1e6, 3.0, 50.0]), np.array([50.0, 96.0, 4.0, 60.0])
    assert measure_errors(values, truth, known).tolist() == [0, 0, 0, 10]
    wild = measure_errors(np.array([1e9]), np.array([50.0]), known)
    assert wild[0] == pytest.approx(1e9 - 200 + 45)
    assert find_middle(np.array([0.0] * 99 + [7.0])) == (0, 7)


def test_answers_in_the_right_order_but_far_off_are_no_gain():
    rng = np.random.default_rng(0)
    truth, known = rng.lognormal(size=40), rng.lognormal(size=160)
    dummy = np.full(40, np.median(known))
    assert weigh_better(compare_values(truth * 1.2, dummy, truth, known)) > 0
    for wrong in (truth * 10, truth + 5, np.where(np.arange(40) == 0, 1e9, truth)):
        order, error = gains = compare_values(wrong, dummy, truth, known)
        assert order.low > 0 > error.gain and weigh_better(gains) < 0


@pytest.mark.parametrize("rows", [4, 40])
def test_limits_of_the_rule_are_finite(rows):
    truth, flat = np.arange(rows) ** 2.0, np.ones(rows)
    for ours, theirs in (
        (truth, truth),
        (truth, -truth),
        (flat, flat),
        (flat, truth),
        (truth, flat),
        (truth, truth + 1),
    ):
        for gain in compare_values(ours, theirs, truth, truth):
            assert np.isfinite([gain.gain, gain.low, gain.high]).all() and gain.low <= gain.gain <= gain.high
    assert [(gain.gain, gain.low, gain.high) for gain in compare_values(truth, truth, truth, truth)] == [(0, 0, 0)] * 2


@pytest.mark.parametrize("truth", [np.ones(40), np.arange(3.0)])
def test_values_that_are_alike_or_too_few_are_refused(truth):
    with pytest.raises(ModelerError, match="undefined on the held-out rows; raise holdout or bring more rows"):
        compare_values(truth, truth, truth, np.arange(9.0))


@pytest.mark.parametrize(
    ("gains", "better", "worse"),
    [
        ([(0.3, 0.1, 0.5), (0.2, -0.1, 0.4)], 0.1, 0.4),
        ([(0.3, 0.1, 0.5), (-0.02, -0.1, 0.4)], -0.02, 0.4),
        ([(0.3, -0.1, 0.5), (0.2, -0.2, 0.4)], -0.1, 0.4),
        ([(-0.2, -0.3, -0.1), (0.2, 0.1, 0.4)], -0.2, -0.1),
        ([(0.3, 0.1, 0.5)], 0.1, 0.5),
    ],
)
def test_one_gain_must_be_clear_and_none_a_loss(gains, better, worse):
    gains = [Gain("", 0.0, 0.0, *gain) for gain in gains]
    assert (weigh_better(gains), weigh_worse(gains)) == (better, worse)


def test_recorded_error_is_held_against_the_errors_now():
    truth = np.random.default_rng(0).normal(size=50)
    gain = compare_recorded(truth + 1, truth, 2.0)
    assert (gain.ours, gain.theirs, gain.gain) == pytest.approx((1, 2, 0.5)) and gain.measure == "mae"
    noise = np.abs(np.random.default_rng(1).normal(size=50))
    low, high = stats.ttest_1samp(2.0 - noise, 0).confidence_interval()
    gain = compare_recorded(truth + noise, truth, 2.0)
    assert (gain.low, gain.high) == pytest.approx((low / 2, high / 2))


def test_encode_classes_refuses_what_is_no_class():
    assert encode_classes(["b", "a", "b"], ["a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(ModelerError, match="'z' is none of the classes a, b"):
        encode_classes(["b", "z"], ["a", "b"])


def test_bounds_are_parsed_by_metric():
    bounds = ["accuracy=0.9", "recall:a=b=.5", "roc_auc=0.8"]
    assert check_bounds(bounds, "--min", ["a=b", "c"]) == {"accuracy": 0.9, "recall:a=b": 0.5, "roc_auc": 0.8}
    assert check_bounds(["rmse=3"], "--max", None) == {"rmse": 3.0}


@pytest.mark.parametrize(
    ("bound", "option", "classes", "sentence"),
    [
        (
            "acuracy=1",
            "--min",
            ["a", "b"],
            "--min acuracy=1: no such bound for a classification; it takes METRIC=VALUE with one of",
        ),
        ("recall:z=1", "--min", ["a", "b"], "recall:a, recall:b, precision:a, precision:b"),
        ("log_loss=1", "--min", ["a", "b"], "--min log_loss=1: no such bound"),
        (
            "accuracy=1",
            "--min",
            None,
            "--min accuracy=1: no such bound for a regression; it takes METRIC=VALUE with one of r2",
        ),
        ("accuracy", "--min", ["a", "b"], "--min accuracy: no such bound"),
        ("accuracy=much", "--min", ["a", "b"], "'much' is not a number; give one, as in --min accuracy=0.9"),
        ("accuracy=nan", "--min", ["a", "b"], "the bound must be a finite number, got nan"),
    ],
)
def test_wrong_bound_says_what_is_allowed(bound, option, classes, sentence):
    with pytest.raises(UsageError) as error:
        check_bounds([bound], option, classes)
    assert sentence in str(error.value)


@pytest.mark.medium
@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_intervals_are_those_of_resampled_and_weighted_scores(classes):
    rng = np.random.default_rng(0)
    truth = rng.choice(classes, 60)
    given = rng.dirichlet(np.ones(len(classes)), 60).round(1)  # with ties
    given[np.arange(60), [classes.index(key) for key in truth]] += 0.4
    target = {"name": "y", "classes": classes} | ({"positive": "b", "threshold": 0.5} if len(classes) == 2 else {})
    answers = decode_answers(given / given.sum(axis=1, keepdims=True), {"target": target})
    intervals, scores = measure_intervals(answers, truth, target), score_answers(answers, truth, target)
    labels, probabilities = [answer["label"] for answer in answers], stack_probabilities(answers)
    weights = np.concatenate(list(resample_rows(encode_classes(truth, classes))))[:150]
    for place, key in enumerate(classes):
        average = _rank_precision(probabilities[:, place], truth == key)(weights)
        expected = [metrics.average_precision_score(truth == key, probabilities[:, place], sample_weight=w) for w in weights]
        assert average == pytest.approx(expected)
    rows = [np.repeat(np.arange(60), weight) for weight in weights]
    drawn = [score_answers([answers[row] for row in some], truth[some], target) for some in rows]
    for name in ("balanced_accuracy", "f1_macro", "log_loss", "roc_auc", "average_precision"):
        expected = np.percentile([scored[name] for scored in drawn], [2.5, 97.5])
        assert intervals[name] == pytest.approx(expected, abs=0.04), name
    hits = sum(label == key for label, key in zip(labels, truth))
    found = sum(label == key == "b" for label, key in zip(labels, truth))
    for name, hit, count in (("accuracy", hits, 60), ("recall:b", found, int((truth == "b").sum()))):
        wilson = stats.binomtest(hit, count).proportion_ci(method="wilson")
        assert intervals[name] == pytest.approx(list(wilson)), name
    assert intervals.keys() == scores.keys()


def test_intervals_of_values_hold_the_scores_and_what_is_undefined_has_none():
    rng = np.random.default_rng(0)
    truth, target = rng.normal(size=80), {"name": "y", "classes": None, "interval": 0.9}
    values, radii = truth + 3 * rng.normal(size=80), rng.uniform(0.5, 1.5, size=80)
    answers = [{"value": v, "low": v - r, "high": v + r} for v, r in zip(values, radii)]
    intervals, scores = measure_intervals(answers, truth, target), score_answers(answers, truth, target)
    assert intervals.keys() == scores.keys()
    assert all(low < scores[name] < high for name, (low, high) in intervals.items())
    error = stats.bootstrap((np.abs(truth - [answer["value"] for answer in answers]),), np.mean, method="percentile")
    assert intervals["mae"] == pytest.approx(list(error.confidence_interval), abs=0.1)
    width = stats.bootstrap((2 * radii,), np.median, method="percentile", rng=0)
    assert intervals["interval_width"] == pytest.approx(list(width.confidence_interval), abs=0.05)
    for rows in (79, 80):
        weights = np.concatenate(list(resample_rows(np.zeros(rows))))[:100]
        medians = [np.median(np.repeat(radii[:rows], weight)) for weight in weights]
        assert _take_medians(radii[:rows], weights) == pytest.approx(medians)
    assert measure_intervals(answers[:3], [1.0] * 3, target).keys() == {"mae", "rmse", "coverage", "interval_width"}
