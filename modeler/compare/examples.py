"""Two small models of the built-in data, for a comparison in JupyterLab before there is any run."""

from pathlib import Path

from modeler.data.derive import derive_contract
from modeler.data.rows import hash_table, raw_records, split_rows
from modeler.data.tables import load_table
from modeler.model.contract import write_json
from modeler.model.graph import Graph
from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.metrics import score_answers

HOLDOUT = 0.2


def write_examples(runs: Path) -> list[str]:
    """Write two runs without notebooks: a linear model of all columns that carry signal, a forest of the strongest ones."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    forest = RandomForestClassifier(50, random_state=0)
    linear = make_pipeline(RobustScaler(), LogisticRegression(max_iter=1_000, random_state=0))
    _write_run(runs / "logistic_regression", linear, "0.1")
    _write_run(runs / "random_forest", forest, "0.7")
    return ["logistic_regression", "random_forest"]


def _write_run(run: Path, model, min_association: str) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.inspection import permutation_importance
    from sklearn.pipeline import Pipeline

    table = load_table("breast_cancer")
    heldout = split_rows(table.frame, HOLDOUT)
    contract = derive_contract(table, table.frame[~heldout], min_association, HOLDOUT)
    X, y = encode_table(table.frame, contract), table.frame[table.target]
    pipeline = Pipeline([("columns", ColumnTransformer([("numbers", "passthrough", list(X))])), ("model", model)])
    _ = pipeline.fit(X[~heldout], y[~heldout])
    write_json(run / "contract.json", contract)
    (run / "model.onnx").write_bytes(convert_pipeline(pipeline, X[~heldout]))
    answers = Graph(run / "model.onnx", contract).answer(raw_records(table.frame[heldout]))
    write_json(run / "metrics.json", score_answers(answers, y[heldout].tolist(), contract["target"]))
    style = {"scoring": "neg_log_loss", "n_repeats": 5, "random_state": 0}
    importance = permutation_importance(pipeline, X[heldout], y[heldout], **style).importances_mean
    write_json(run / "importance.json", {"loss": "log_loss", "rise": dict(zip(X, importance.round(6).tolist()))})
    told = {"data": table.name, "target": table.target, "holdout": HOLDOUT, "split_by": "", "split_time": ""}
    parameters = {
        "eda.ipynb": told | {"min_association": min_association},
        "train.ipynb": {"estimator": run.name, "seed": 0},
    }
    data = {
        "name": table.name,
        "sha256": hash_table(table.frame),
        "rows": len(table.frame),
        "columns": table.frame.shape[1],
    }
    write_json(run / "provenance.json", {"parameters": parameters, "data": data})
