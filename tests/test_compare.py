"""Comparing estimators, averaging the best and choosing one."""

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeler.model.graph import import_runtime
from modeler.train.compare import average_pipelines, choose_estimator, describe_comparison
from modeler.train.estimator import convert_pipeline


def make_scores(**means) -> pd.DataFrame:
    """Five folds each, which differ between folds far more than between estimators, as real ones do."""
    folds, jitter = np.array([-0.10, -0.05, 0.0, 0.05, 0.10]), np.array([0.002, -0.002, 0.0, 0.002, -0.002])
    return pd.DataFrame({name: mean + folds + jitter * number for number, (name, mean) in enumerate(means.items())})


@pytest.mark.parametrize(
    ("means", "chosen"),
    [
        ({"cheap": 0.80, "dear": 0.90}, "dear"),
        ({"cheap": 0.8995, "dear": 0.90}, "cheap"),
        ({"cheap": 0.90, "dear": 0.80}, "cheap"),
        ({"cheap": 0.85, "middle": 0.8995, "dear": 0.90}, "middle"),
        ({"cheap": 0.895, "dear": 0.90}, "dear"),  # behind by far less than the spread of the folds, but in each of them
        ({"only": 0.5}, "only"),
    ],
)
def test_dearer_estimator_must_be_better_by_more_than_a_standard_error(means, chosen):
    assert choose_estimator(make_scores(**means)) == chosen


def test_equal_scores_choose_the_cheapest():
    assert choose_estimator(make_scores(a=0.9).assign(b=lambda scores: scores["a"])) == "a"


def test_comparison_is_noted_best_first_with_the_seconds_of_all_folds():
    runs = {
        name: {"test_r2": np.array(scores), "fit_time": np.array([1.0, 2.0]), "score_time": np.array([0.25, 0.25])}
        for name, scores in {"worse": [0.1, 0.3], "better": [0.5, 0.5]}.items()
    }
    assert describe_comparison(runs, "r2", "worse") == {
        "score": "r2", "folds": 2, "chosen": "worse",
        "compared": [
            {"estimator": "better", "mean": 0.5, "std": 0.0, "seconds": 3.5},
            {"estimator": "worse", "mean": 0.2, "std": round(0.02**0.5, 6), "seconds": 3.5},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["classes", "values", "logarithms"])
def test_average_answers_the_mean_of_its_members_and_so_does_its_graph(kind):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a b": rng.normal(size=300), "c": rng.integers(5, size=300)}, dtype="float32")
    X = X.where(rng.random(X.shape) > 0.1).assign(t=pd.Series(rng.choice(list("xyz"), 300), dtype=object))
    y = np.exp(X["c"].fillna(0) + (X["t"] == "x") + rng.normal(scale=0.1, size=300)).to_numpy()
    y = np.where(y > 5, "much", "little") if kind == "classes" else y
    encode = OneHotEncoder(categories=[list("xyz")], handle_unknown="ignore", sparse_output=False)
    models = [linear_model.Ridge(), ensemble.HistGradientBoostingRegressor(max_iter=9)]
    if kind == "classes":
        models = [linear_model.LogisticRegression(), ensemble.HistGradientBoostingClassifier(max_iter=9)]
    if kind == "logarithms":
        models = [TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp) for model in models]
    parts = [make_pipeline(SimpleImputer(), StandardScaler()), "passthrough"]
    pipelines = {
        str(part): Pipeline([
            ("columns", ColumnTransformer([("numbers", part, ["a b", "c"]), ("categories", encode, ["t"])])),
            ("model", model),
        ])
        for part, model in zip(parts, models)
    }  # fmt: skip
    average = average_pipelines(pipelines).fit(X, y)
    answer = "predict_proba" if kind == "classes" else "predict"
    each = [getattr(pipeline.fit(X, y), answer)(X) for pipeline in pipelines.values()]
    mean = np.exp(np.log(each).mean(axis=0)) if kind == "logarithms" else np.mean(each, axis=0)
    assert getattr(average, answer)(X) == pytest.approx(mean, rel=1e-6)
    session = import_runtime().InferenceSession(convert_pipeline(average, X))
    given = {"numbers": X[["a b", "c"]].to_numpy(), "categories": X[["t"]].to_numpy(object)}
    answered = session.run(None, given)[-1].reshape(mean.shape)
    assert answered == pytest.approx(getattr(average, answer)(X), rel=1e-5, abs=1e-5)
