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
    """A Pipeline that answers the mean of others, by their names, which differ in how they prepare columns and in their model.

    Each is of a ColumnTransformer with the parts "numbers" and "categories", and a model; either none or all of them have
    a TransformedTargetRegressor around it. Numbers then go into the vote as they are and are prepared inside. Categories
    are prepared before it, as texts and numbers do not go in together: in every way there is, of which a member takes its own.
    What the others do before, which must be the same, is done once.
    """
    from sklearn.base import is_classifier
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.pipeline import Pipeline, make_pipeline

    members, around = [], None
    codings = _list_codings(pipelines.values())
    for name, pipeline in pipelines.items():
        (_, part, numbers), (_, coding, _) = pipeline["columns"].transformers
        model = pipeline["model"]
        if isinstance(model, TransformedTargetRegressor):
            around, model = model, model.regressor
        if len(codings) > 1:
            positions = [len(numbers) + position for position in codings[coding]]
            parts = [("numbers", part, list(range(len(numbers)))), ("categories", "passthrough", positions)]
            model = make_pipeline(ColumnTransformer(parts), model)
        elif part != "passthrough":
            prepare = ColumnTransformer([("numbers", part, list(range(len(numbers))))], remainder="passthrough")
            model = make_pipeline(prepare, model)
        members.append((name, model))
    if is_classifier(members[0][1]):
        vote = VotingClassifier(members, voting="soft", flatten_transform=False)
    else:
        vote = VotingRegressor(members)
    if around:
        vote = TransformedTargetRegressor(vote, func=around.func, inverse_func=around.inverse_func)
    texts = pipeline["columns"].transformers[1][2]
    coded = [(f"categories{number or ''}", coding, texts) for number, coding in enumerate(codings)]
    columns = ColumnTransformer([("numbers", "passthrough", numbers), *coded])
    return Pipeline([*pipeline.steps[:-2], ("columns", columns), ("model", vote)])


def _list_codings(pipelines) -> dict:
    """The ways to encode categories, each with the positions that its columns have if all of them stand side by side.

    One way is one encoder, shared by its Pipelines; one-hot encoders name their categories.
    """
    codings, start = {}, 0
    for pipeline in pipelines:
        _, coding, texts = pipeline["columns"].transformers[1]
        if not codings or (texts and coding not in codings):
            is_one_hot = type(coding).__name__ == "OneHotEncoder"
            width = sum(len(kept) for kept in coding.categories) if is_one_hot else len(texts)
            codings[coding] = range(start, start + width)
            start += width
    return codings


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
