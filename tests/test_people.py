"""Tables as people have them, with dates, times, money and units: each estimator answers over HTTP like the one from skops."""


import pandas as pd
import pytest
from cells import post, run_cells
from palmerpenguins import load_penguins_raw
from vega_datasets import local_data

from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.gate.judge import judge_candidate
from modeler.model.answers import SAME_ANSWER, describe_differences
from modeler.model.contract import read_contract, write_json
from modeler.model.stored import StoredModel, content_version
from modeler.service.predictor import Predictor
from modeler.train.estimator import answer_with_estimator, load_estimator

ESTIMATORS = ["logistic_regression", "binned_logistic_regression", "gradient_boosting", "hist_gradient_boosting", "random_forest",
              "extra_trees", "lightgbm", "xgboost", "catboost"]  # fmt: skip
TOLD = {"holdout": 0.2, "split_by": "", "split_time": "", "positive": "", "threshold": "0.5", "min_association": "auto"}


def make_penguins():
    """Yes and no, a date with gaps, and grams with their unit."""
    frame = load_penguins_raw().dropna(subset="Sex")
    weight = frame["Body Mass (g)"].map("{:,.0f} g".format)
    return frame.assign(**{"Body Mass (g)": weight}), "Sex", {"Date Egg": "date", "Body Mass (g)": "number"}


def make_weather():
    """Days as in Germany, and millimetres with a decimal comma."""
    frame = local_data.seattle_weather()
    frame = frame[frame["weather"].isin(["rain", "sun", "fog"])]
    rain, day = frame["precipitation"].map("{:.1f} mm".format), frame["date"].dt.strftime("%d.%m.%Y")
    texts = {"precipitation": rain, "temp_max": frame["temp_max"].astype(str), "temp_min": frame["temp_min"].astype(str)}
    commas = {name: column.str.replace(".", ",") for name, column in texts.items()}
    return frame.assign(date=day, **commas).drop(columns="wind"), "weather", {"date": "date", "precipitation": "number"}


def make_temperatures():
    """Moments of one year, hour by hour, as in America."""
    frame = local_data.sf_temps().sample(900, random_state=0)
    return frame.assign(date=frame["date"].dt.strftime("%m/%d/%Y %I:%M %p")), "temp", {"date": "date"}


def make_stocks():
    """Months with names, and prices in dollars as the target."""
    frame = local_data.stocks()
    price = frame["price"].map("${:,.2f}".format)
    return frame.assign(date=frame["date"].dt.strftime("%b %d %Y"), price=price), "price", {"date": "date"}


def make_employment():
    """A date in ISO 8601 and two dozen columns of thousands."""
    frame = local_data.us_employment()
    texts = {name: frame[name].map("{:,}".format) for name in frame.columns.drop(["month", "nonfarm", "nonfarm_change"])}
    return frame.assign(**texts).drop(columns="nonfarm_change"), "nonfarm", {"month": "date", "construction": "number"}


TABLES = [make_penguins, make_weather, make_temperatures, make_stocks, make_employment]


@pytest.fixture(scope="module", params=TABLES)
def looked(request, tmp_path_factory):
    """A folder with a table and its contract, as eda.ipynb leaves them; the target, and what types it should find."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    frame, target, types = request.param()
    frame.to_csv(folder / "table.csv", index=False, sep=";" if request.param is make_weather else ",")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        told = {"data": "table.csv", "target": target, "out": ".", "min_association": "auto"}
        run_cells(told, 'write_json(f"{out}/contract.json"', notebook="eda.ipynb")
    return folder, target, types


@pytest.mark.medium
def test_types_are_found(looked):
    folder, _, types = looked
    features = {feature["name"]: feature for feature in read_contract(folder / "contract.json")["features"]}
    assert {name: features[name]["type"] for name in types} == types
    assert all(features[name]["used"] and "format" in features[name] for name in types)


@pytest.mark.medium
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_answers_over_http_are_those_of_the_estimator_from_skops(looked, tmp_path, monkeypatch, estimator):
    folder, target, types = looked
    monkeypatch.chdir(tmp_path)
    for name in ("table.csv", "contract.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    run_cells({"data": "table.csv", "estimator": estimator, "n_estimators": 10, "out": "."}, "wrote contract.json")
    table = load_table("table.csv", target)
    judgement = judge_candidate(tmp_path, table, TOLD, {}, {})
    assert not [reason for reason in judgement.reasons if "dummy" not in reason]
    rows, contract = table.frame[split_rows(table.frame, 0.2)], read_contract(tmp_path / "contract.json")
    expected = answer_with_estimator(load_estimator(tmp_path / "model.skops"), rows, contract)
    for name in ("provenance", "verdict"):
        write_json(tmp_path / f"{name}.json", {})
    predictor = Predictor(StoredModel(f"table:{content_version(tmp_path)}", tmp_path), 10_000)
    as_read = raw_records(rows.drop(columns=target))
    given = post(predictor, as_read)
    assert list(describe_differences(given["predictions"], expected, contract, SAME_ANSWER)) == []
    assert post(predictor, write_as_the_file_does(rows, types, as_read, contract)) == given


def write_as_the_file_does(rows, types, as_read, contract) -> list[dict]:
    """The same rows with their texts as they stand in the file."""
    raw = pd.read_csv("table.csv", sep=None, engine="python", dtype=str).loc[rows.index]
    texts = {name: raw[name].astype(object).where(raw[name].notna(), None).tolist() for name in types}
    return [row | {name: texts[name][place] for name in types} for place, row in enumerate(as_read)]
