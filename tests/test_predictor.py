"""A stored model at work: warnings, answers without end, golden rows that come first."""

import json
from datetime import datetime, timezone
from types import SimpleNamespace

import jsonschema
import pytest
from test_graph import CLASSIFIERS, REGRESSORS, fit, make_table

from modeler import ModelerError
from modeler.data.rows import raw_records
from modeler.model.answers import decode_answers, describe_differences
from modeler.model.contract import read_json, write_json
from modeler.model.stored import StoredModel, content_version
from modeler.service.body import RequestError
from modeler.service.openapi import describe_api, make_example
from modeler.service.predictor import Predictor
from modeler.train.estimator import convert_pipeline


@pytest.fixture(scope="module", params=["two", "several", "numbers", "booleans", "values"])
def made(request, tmp_path_factory):
    """A model of numbers, booleans and categories with gaps, as the store holds it."""
    return store_model(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture
def two(tmp_path):
    return store_model(tmp_path, "two")


def store_model(folder, kind, estimator="random_forest", times=1):
    table = make_table(kind)
    if times != 1:
        table.frame["y"] *= times
    pipeline, X, contract = fit(table, (REGRESSORS if kind == "values" else CLASSIFIERS)[estimator])
    (folder / "model.onnx").write_bytes(convert_pipeline(pipeline, X))
    write_json(folder / "contract.json", contract)
    output = pipeline.predict(X) if kind == "values" else pipeline.predict_proba(X)
    rows = raw_records(table.frame.drop(columns="y"))
    write_json(folder / "golden.json", {"rows": rows[:32], "answers": decode_answers(output, contract)[:32]})
    for name in ("metrics", "provenance", "verdict"):
        write_json(folder / f"{name}.json", {"of": name})
    return StoredModel(f"made:{content_version(folder)}", folder)


def answer(model, rows):
    return json.loads(Predictor(model, 1000).answer(json.dumps(rows).encode()).body)


def test_answers_are_the_estimators_for_every_kind_of_target(made):
    Predictor(made, 1000).check_golden()
    golden = made.read("golden.json")
    given = answer(made, golden["rows"])
    assert given["model"] == made.tag and len(given["predictions"]) == 32
    for ours, theirs in zip(given["predictions"], golden["answers"], strict=True):
        assert ours.keys() == {*theirs, "warnings"}
        assert type(ours.get("label")) is type(theirs.get("label"))


def test_each_row_is_answered_as_it_is_alone(made):
    rows = made.read("golden.json")["rows"]
    together = answer(made, rows)["predictions"]
    alone = [given for row in rows for given in answer(made, [row])["predictions"]]
    assert list(describe_differences(alone, together, made.read("contract.json"), 1e-6)) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class": 9}, "class 9 is outside the training range 0 to 8"),
        ({"class": -0.5}, "class -0.5 is outside the training range 0 to 8"),
        ({"class": 1e38}, "class 1e+38 is outside the training range 0 to 8"),
        ({"1st colour": "mauve"}, "1st colour 'mauve' was not seen in training"),
        ({"class": 0}, None),
        ({"class": 8}, None),
        ({"class": 3.7}, None),
        ({"flag?": None}, None),
        ({"1st colour": None, "mean area (mm²)": None}, None),
    ],
)
def test_value_unlike_the_training_is_answered_with_a_warning(two, change, sentence):
    rows = two.read("golden.json")["rows"][:3]
    plain, warned, last = answer(two, [rows[0], rows[1] | change, rows[2]])["predictions"]
    assert plain["warnings"] == last["warnings"] == [] and warned["warnings"] == ([sentence] if sentence else [])
    assert warned["label"] in ("no", "yes")


def test_warnings_are_counted_by_kind_and_labels_as_they_are_shown(two):
    rows = two.read("golden.json")["rows"][:2]
    body = json.dumps([rows[0] | {"class": 9, "1st colour": "mauve"}, rows[1] | {"class": 10}]).encode()
    given = Predictor(two, 10).answer(body)
    assert sorted(given.warnings) == ["outside_range", "outside_range", "unseen_category"]
    assert given.rows == 2 and set(given.labels) <= {"no", "yes"}


def test_labels_are_counted_as_the_probabilities_are_named(made):
    predictor = Predictor(made, 100)
    given = predictor.answer(json.dumps(made.read("golden.json")["rows"]).encode())
    named = {key for answer in json.loads(given.body)["predictions"] for key in answer.get("probabilities", ())}
    assert set(given.labels) <= (named or {""}) and len(given.labels) == given.rows


def test_long_category_is_shortened_in_its_warning(two):
    row = two.read("golden.json")["rows"][0]
    (given,) = answer(two, [row | {"1st colour": "x" * 10_000}])["predictions"]
    assert len(given["warnings"][0]) < 200


def test_text_that_stands_for_missing_is_unseen_where_nothing_may_be_missing(tmp_path):
    model = store_model(tmp_path, "two")
    row, contract = model.read("golden.json")["rows"][0], model.read("contract.json")
    for feature in contract["features"]:
        feature["missing"] = False
    write_json(tmp_path / "contract.json", contract)
    row = {
        name: value if value is not None else {"flag?": True, "1st colour": "red"}.get(name, 1)
        for name, value in row.items()
    }
    (given,) = answer(model, [row | {"1st colour": "(missing)"}])["predictions"]
    assert given["warnings"] == ["1st colour '(missing)' was not seen in training"]


def test_limit_of_rows_is_for_requests_not_for_golden_rows(two):
    Predictor(two, 5).check_golden()
    with pytest.raises(RequestError, match="6 rows are too many; send at most 5 a request"):
        Predictor(two, 5).answer(json.dumps(two.read("golden.json")["rows"][:6]).encode())


def test_documents_and_example_of_every_kind_of_model_fit_each_other(made):
    predictor = Predictor(made, 10)
    document = describe_api(predictor.contract, predictor.example, 10, 1000)
    schema = {"$ref": "#/components/schemas/Answers", "components": document["components"]}
    jsonschema.validate(predictor.example, schema, jsonschema.Draft202012Validator)
    body = {"$ref": "#/components/schemas/Row", "components": document["components"]}
    jsonschema.validate(make_example(predictor.contract), body, jsonschema.Draft202012Validator)
    for row in made.read("golden.json")["rows"]:
        jsonschema.validate(row, body, jsonschema.Draft202012Validator)
    for wrong in ({"class": "3"}, {"class": None}, {"flag?": 1}, {"1st colour": 5}, {"new": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(row | wrong, body, jsonschema.Draft202012Validator)


def test_row_without_a_finite_answer_is_a_fault_of_the_request(tmp_path):
    model = store_model(tmp_path, "values", "logistic_regression", times=1e6)
    rows = model.read("golden.json")["rows"][:3]
    with pytest.raises(RequestError, match="1 of 2 rows have no finite answer") as refused:
        answer(model, [rows[0], rows[1] | {"class": 3e38}])
    assert refused.value.status == 400 and refused.value.answer["detail"][0]["row"] == 1


def test_model_whose_golden_rows_differ_must_not_answer(two):
    golden = two.read("golden.json")
    golden["answers"][5]["probabilities"] = {"no": 0.123, "yes": 0.877}
    write_json(two.path / "golden.json", golden)
    with pytest.raises(ModelerError, match="differs from its golden rows: one row a request, row 5: "):
        Predictor(two, 1000).check_golden()


def test_model_is_described_by_what_is_stored_with_it(two):
    described = Predictor(two, 10).describe()
    assert datetime.fromisoformat(described.pop("since")) <= datetime.now(timezone.utc)
    assert described == {
        "tag": two.tag,
        "contract": read_json(two.path / "contract.json"),
        **{name: {"of": name} for name in ("metrics", "provenance", "verdict")},
        "warnings": [],
        "reference": None,  # of a model of before
    }
    write_json(two.path / "reference.json", {"rows": 7})
    assert Predictor(two, 10).describe()["reference"] == {"rows": 7}
    with pytest.raises(RequestError, match="has no readable eda.html; .* retrain to get one"):
        Predictor(two, 10).read_page("eda")


def test_model_answers_since_it_was_loaded_first_and_another_one_since_now(two, monkeypatch):
    from service import Prediction

    loaded = [Predictor(two, 10) for _ in range(3)]
    loaded[2].tag = "made:other"
    monkeypatch.setattr("modeler.service.predictor.load_predictor", lambda tag, most: loaded.pop(0))
    service = SimpleNamespace(predictor=None, fault=None)
    sinces = []
    for _ in range(3):
        Prediction.inner.load(service)
        sinces.append(service.predictor.since)
    assert sinces[0] == sinces[1] < sinces[2]
