"""Metrics: the same figures as scikit-learn's, and bounds that are checked before a kernel starts."""

import numpy as np
import pytest
from sklearn import metrics

from modeler import ModelerError, UsageError
from modeler.gate.bounds import check_bounds
from modeler.model.answers import decode_answers
from modeler.train.metrics import (
    RESAMPLES,
    _resample,
    encode_classes,
    measure_interval,
    measure_roc_auc,
    resample_primary,
    score_answers,
)


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
    for weights, area in zip(next(_resample(codes))[:20], resample_primary([answers], truth, target)[0]):
        drawn = np.repeat(np.arange(60), weights)
        assert (np.bincount(codes[drawn]) == np.bincount(codes)).all()  # every class keeps its size
        expected = [metrics.roc_auc_score(codes[drawn] == k, probabilities[drawn, k]) for k in kinds]
        assert area == pytest.approx(np.mean(expected))


def test_resampled_r2_is_that_of_the_rows_drawn_in_fifths():
    rng = np.random.default_rng(0)
    truth = 1e4 + rng.normal(size=50)
    values = truth + rng.normal(size=50)
    answers = [{"value": value} for value in values]
    resampled = resample_primary([answers, answers], truth, {"name": "y", "classes": None})
    assert resampled.shape == (2, RESAMPLES) and np.abs(resampled[0] - resampled[1]).max() < 1e-12
    fifths = np.argsort(np.argsort(truth)) // 10
    for weights, r2 in zip(next(_resample(fifths))[:20], resampled[0]):
        drawn = np.repeat(np.arange(50), weights)
        assert np.bincount(fifths[drawn]).tolist() == [10] * 5
        assert r2 == pytest.approx(metrics.r2_score(truth[drawn], values[drawn]))


def test_resamples_are_many_seeded_and_different():
    first, again = (np.concatenate(list(_resample(np.zeros(30), 500))) for _ in range(2))
    assert (first == again).all() and first.shape == (500, 30)
    assert len(np.unique(first, axis=0)) == 500 and first.mean(axis=0) == pytest.approx(1, abs=0.25)


def test_interval_of_an_undefined_metric_is_refused():
    assert measure_interval(np.arange(41.0)) == (1.0, 39.0)
    with pytest.raises(ModelerError, match="undefined on the held-out rows; raise holdout or bring more rows"):
        measure_interval(np.array([0.5, np.nan]))


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
