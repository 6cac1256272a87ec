"""Two small models of the built-in data, for a comparison in JupyterLab before there is any run."""

from pathlib import Path

from modeler.data.derive import derive_contract
from modeler.data.rows import hash_table, raw_records, split_rows
from modeler.data.tables import Table, load_table
from modeler.model.contract import write_json
from modeler.model.graph import Graph
from modeler.train.estimator import convert_pipeline, encode_table
from modeler.train.metrics import score_answers

HOLDOUT = 0.2


def write_examples(runs: Path) -> list[str]:
    """Write two runs without notebooks, and name them: a linear model of many columns, and a forest of the strongest."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    linear = make_pipeline(RobustScaler(), LogisticRegression(max_iter=1_000, random_state=0))
    table = load_table("breast_cancer")
    write_run(runs / "logistic_regression", table, linear, "0.1")
    write_run(runs / "random_forest", table, RandomForestClassifier(50, random_state=0), "0.7")
    return ["logistic_regression", "random_forest"]


def write_run(run: Path, table: Table, model, min_association: str, data: str = "") -> None:
    """Train a model on the numbers of a table without gaps, and write a run of it; `data` names the file in the run's folder."""
    from sklearn.compose import ColumnTransformer
    from sklearn.inspection import permutation_importance
    from sklearn.pipeline import Pipeline

    heldout = split_rows(table.frame, HOLDOUT)
    contract = derive_contract(table, table.frame[~heldout], min_association, HOLDOUT)
    X, y = encode_table(table.frame, contract), table.frame[table.target]
    pipeline = Pipeline([("columns", ColumnTransformer([("numbers", "passthrough", list(X))])), ("model", model)])
    _ = pipeline.fit(X[~heldout], y[~heldout])
    write_json(run / "contract.json", contract)
    (run / "model.onnx").write_bytes(convert_pipeline(pipeline, X[~heldout]))
    answers = Graph(run / "model.onnx", contract).answer(raw_records(table.frame[heldout]))
    write_json(run / "metrics.json", score_answers(answers, y[heldout].tolist(), contract["target"]))
    loss = "log_loss" if contract["target"]["classes"] else "root_mean_squared_error"
    style = {"scoring": f"neg_{loss}", "n_repeats": 5, "random_state": 0}
    importance = permutation_importance(pipeline, X[heldout], y[heldout], **style).importances_mean
    write_json(run / "importance.json", {"loss": loss, "rise": dict(zip(X, importance.round(6).tolist()))})
    told = {"data": data or table.name, "target": table.target, "holdout": HOLDOUT, "split_by": "", "split_time": ""}
    told |= {"min_association": min_association}
    parameters = {"eda.ipynb": told, "train.ipynb": {"estimator": run.name, "seed": 0}}
    rows, columns = table.frame.shape
    noted = {"name": table.name, "sha256": hash_table(table.frame), "rows": rows, "columns": columns}
    write_json(run / "provenance.json", {"parameters": parameters, "data": noted})
