"""Real tables, each trained, stored and served, and compared answer by answer with the scikit-learn estimator."""

import json
from pathlib import Path

import numpy as np
import pytest
from cells import HERE, ask, make_mixed, run_cells, write_table
from conftest import read_examples
from palmerpenguins import load_penguins
from sklearn.datasets import load_diabetes, load_wine
from vega_datasets import local_data

from modeler import ModelerError
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.model.answers import SAME_ANSWER, describe_differences
from modeler.model.contract import read_contract
from modeler.model.stored import find_champion
from modeler.service.predictor import Predictor
from modeler.train.estimator import answer_with_estimator, load_estimator


def write_penguins(folder) -> Path:
    load_penguins().to_csv(folder / "penguins.csv", index=False)
    return folder / "penguins.csv"


def write_penguins_as_in_france(folder) -> Path:
    frame = load_penguins().dropna(subset="sex").replace({"sex": {"male": "mâle", "female": "femelle"}})
    frame.to_csv(folder / "manchots.csv", sep=";", decimal=",", encoding="latin-1")
    return folder / "manchots.csv"


def write_cars(folder) -> Path:
    local_data.cars().dropna(subset="Miles_per_Gallon").to_parquet(folder / "cars.parquet")
    return folder / "cars.parquet"


def write_weather(folder) -> Path:
    local_data.seattle_weather().to_csv(folder / "weather.csv", sep="\t", index=False)
    return folder / "weather.csv"


def write_wine(folder) -> Path:
    load_wine(as_frame=True).frame.to_parquet(folder / "wine.parquet")
    return folder / "wine.parquet"


def write_diabetes(folder) -> Path:
    load_diabetes(as_frame=True, scaled=False).frame.to_csv(folder / "diabetes.csv", index=False)
    return folder / "diabetes.csv"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("write", "target", "estimator", "said"),
    [
        (write_penguins, "species", "random_forest", "classification of 'species': its 3 different values are texts"),
        (write_penguins_as_in_france, "sex", "hist_gradient_boosting", "read with separator semicolon, decimal comma"),
        (write_cars, "Miles_per_Gallon", "gradient_boosting", "regression of 'Miles_per_Gallon': its values are fr"),
        (write_weather, "weather", "extra_trees", "read with separator tab"),
        (write_wine, "target", "binned_logistic_regression", "it has 3 different whole numbers, no more than 20"),
        (write_diabetes, "target", "auto", "it has 214 different numbers, more than 20"),
        (write_penguins, "species", "lightgbm", "classification of 'species': its 3 different values are texts"),
        (write_cars, "Miles_per_Gallon", "xgboost", "regression of 'Miles_per_Gallon': its values are fr"),
        (write_weather, "weather", "catboost", "read with separator tab"),
    ],
)
def test_real_table_is_trained_and_served_like_its_estimator(typed, tmp_path, write, target, estimator, said):
    path = write(tmp_path)
    options = ["-p", f"estimator={estimator}", "-p", "n_estimators=30", "-p", "min_association=0.01"]
    done = typed("--data", path, "--target", target, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert said in done.stderr.partition(HERE)[0]
    result = json.loads(done.stdout)
    run, contract = Path(result["run"]), read_contract(Path(result["run"]) / "contract.json")
    table = load_table(str(path), target)
    rows = table.frame[split_rows(table.frame, contract["split"]["share"])]
    expected = answer_with_estimator(load_estimator(run / "model.skops"), rows, contract)
    status, answer = ask(Predictor(find_champion(path.stem), 10_000), raw_records(rows.drop(columns=target)))
    assert status == 200, answer
    assert answer["model"] == result["model"]
    assert list(describe_differences(answer["predictions"], expected, contract, SAME_ANSWER)) == []
    if contract["task"] == "classification":
        assert {answer["label"] for answer in answer["predictions"]} <= set(rows[target].tolist())


@pytest.mark.medium
def test_own_columns_estimator_and_plot_of_the_docs_work_as_they_stand(project, typed):
    (columns,) = read_examples("docs/own-data.md", "python")
    estimator, plot = read_examples("docs/notebooks.md", "python")
    project.edit_cell("eda.ipynb", "contract = derive_contract(", lambda source: f"{source}\n{columns}")
    project.edit_cell("eda.ipynb", "levels, grouped =", lambda source: f"{source}\n{plot}_ = fig.savefig('own.png')")
    project.edit_cell("train.ipynb", "regressors = {", lambda source: f"{source}\n{estimator}")
    comment = "gradient_boosting, hist_gradient_boosting"
    project.edit_cell("train.ipynb", comment, lambda source: source.replace(comment, f"{comment}, neural_network", 1))
    done = typed("-p", "estimator=neural_network", "--json")
    assert done.returncode == 0, done.stderr
    run = Path(json.loads(done.stdout)["run"])
    features = {feature["name"]: feature for feature in read_contract(run / "contract.json")["features"]}
    assert features["worst concave points"]["reason"] == "not known when the prediction is made"
    assert "MLPClassifier" in str(load_estimator(run / "model.skops"))
    assert 'few["mean radius"]' in plot and (run / "own.png").exists()


# Every choice of an estimator on every kind of table


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["two", "several", "numbers"])
@pytest.mark.parametrize(
    "estimator",
    [
        "auto", "logistic_regression", "binned_logistic_regression", "gradient_boosting", "hist_gradient_boosting",
        "random_forest", "extra_trees",
    ],  # fmt: skip
)
def test_every_estimator_takes_every_kind_of_table_and_equals_its_graph(tmp_path, monkeypatch, capsys, kind, estimator):
    """The cells of train.ipynb, from its first to the one that compares graph and estimator, run here without a kernel."""
    monkeypatch.chdir(tmp_path)
    told, _ = write_table(make_mixed(kind))
    names = run_cells(told | {"estimator": estimator}, until="graph and estimator differ")
    assert "graph and estimator give the same answer to all" in capsys.readouterr().out
    compared = [entry["estimator"] for entry in names["cv"]["compared"]]
    assert names["cv"]["chosen"] in compared and len(compared) == (10 if estimator == "auto" else 1)


@pytest.mark.medium
def test_skewed_positive_values_are_compared_with_their_logarithm(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = make_mixed("numbers")
    told, _ = write_table(frame.assign(y=np.exp(frame["y"])))
    names = run_cells(told, until="graph and estimator differ")
    assert "graph and estimator give the same answer to all" in capsys.readouterr().out
    means = {entry["estimator"]: entry["mean"] for entry in names["cv"]["compared"]}
    assert len(means) == 20 and names["cv"]["chosen"] in means
    assert means["logistic_regression, log"] > means["logistic_regression"]
    only = run_cells(told | {"target_transform": "none"}, until="print(\"compared:\"")
    assert len(only["candidates"]) == 9
    only = run_cells(told | {"target_transform": "log", "estimator": "extra_trees"}, until="print(\"compared:\"")
    assert list(only["candidates"]) == ["extra_trees, log"]


@pytest.mark.medium
def test_threshold_is_chosen_by_cross_validated_answers_and_kept_in_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, table = write_table(make_mixed("two"))
    names = run_cells(told | {"estimator": "logistic_regression", "threshold": "recall:0.95"}, until="graph and estimator differ")
    assert len(names["guessed"]) == (~split_rows(table.frame, 0.2)).sum() and names["target"]["threshold"] not in (0.5, 0.95)
    found = names["guessed"][names["is_positive"]] >= names["target"]["threshold"]
    assert found.mean() >= 0.95
    assert names["graph"].contract["target"]["threshold"] == names["target"]["threshold"]


def test_target_with_many_equal_values_is_shown_in_thirds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = make_mixed("numbers")
    frame.assign(y=frame["y"].where(frame["y"] > 1, 0)).to_parquet("equal.parquet")
    names = run_cells({"data": "equal.parquet", "target": "y"}, "balance = groups", notebook="eda.ipynb")
    assert list(names["balance"].index) == ["low", "middle", "high"]
    assert names["balance"].max() - names["balance"].min() <= 1


def test_step_without_a_converter_is_named_with_the_alternatives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, _ = write_table(make_mixed("two"))

    def add_another(source: str) -> str:
        given = 'classifiers = {\n    "label_propagation": semi_supervised.LabelPropagation(),'
        return source.replace("classifiers = {", f"from sklearn import semi_supervised\n{given}")

    with pytest.raises(
        ModelerError, match="LabelPropagation.* cannot be converted to ONNX: .*take a step that skl2onnx"
    ):
        run_cells(told | {"estimator": "label_propagation"}, "graph and estimator differ", add_another)
