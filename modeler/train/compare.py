"""Comparing estimators by their cross-validated scores, and choosing one."""

import pandas as pd


def choose_estimator(scores: pd.DataFrame) -> str:
    """The first column whose score is the best or within one standard error of it.

    `scores` has one row a fold and one column an estimator, the cheapest to serve first. A dearer one is worth its price only
    if it is better by more than chance: the one-standard-error rule (L. Breiman et al., Classification and Regression Trees,
    1984, section 3.4.3), with the standard error of the difference over the same folds.
    """
    best = scores.mean().idxmax()
    for name in scores:
        behind = scores[best] - scores[name]
        if behind.mean() <= behind.std() / len(scores) ** 0.5:
            return name
    return best


def average_pipelines(pipelines: dict):
    """A Pipeline that answers the mean of others, by their names, which differ in how they prepare numbers and in their model.

    Each is of a ColumnTransformer with the parts "numbers" and "categories", and a model; either none or all of them have
    a TransformedTargetRegressor around it. Numbers then go into the vote as they are and are prepared inside. What they do
    before, which must be the same, is done once.
    """
    from sklearn.base import is_classifier
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.pipeline import Pipeline, make_pipeline

    members, around = [], None
    for name, pipeline in pipelines.items():
        (_, part, numbers), categories = pipeline["columns"].transformers
        model = pipeline["model"]
        if isinstance(model, TransformedTargetRegressor):
            around, model = model, model.regressor
        if part != "passthrough":
            prepare = ColumnTransformer([("numbers", part, list(range(len(numbers))))], remainder="passthrough")
            model = make_pipeline(prepare, model)
        members.append((name, model))
    if is_classifier(members[0][1]):
        vote = VotingClassifier(members, voting="soft", flatten_transform=False)
    else:
        vote = VotingRegressor(members)
    if around:
        vote = TransformedTargetRegressor(vote, func=around.func, inverse_func=around.inverse_func)
    columns = ColumnTransformer([("numbers", "passthrough", numbers), categories])
    return Pipeline([*pipeline.steps[:-2], ("columns", columns), ("model", vote)])


def describe_comparison(validated: dict[str, dict], score: str, chosen: str) -> dict:
    """What was compared, for metrics.json: the best mean first, with the seconds that fitting and scoring took.

    `validated` holds what scikit-learn's `cross_validate` returned by estimator, `score` the name of its scorer.
    """
    compared = [
        {
            "estimator": name,
            "mean": round(float(run[f"test_{score}"].mean()), 6),
            "std": round(float(run[f"test_{score}"].std(ddof=1)), 6),
            "seconds": round(float(run["fit_time"].sum() + run["score_time"].sum()), 3),
        }
        for name, run in validated.items()
    ]
    compared.sort(key=lambda entry: -entry["mean"])
    return {
        "score": score,
        "folds": len(next(iter(validated.values()))["fit_time"]),
        "compared": compared,
        "chosen": chosen,
    }
