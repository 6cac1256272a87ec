"""The service's OpenAPI document, made from the contract of the model that answers."""

from collections.abc import Callable, Iterable

from pydantic import TypeAdapter
from pydantic_core import to_json

from modeler.model.contract import class_key, used_features
from modeler.service.body import MOST_FAULTS, BodyReader, RequestError, create_row_model, write_forms

ANY_VALUE = {"description": "what was received; null where there was nothing"}
PAGES = {"eda": "exploratory data analysis", "train": "training"}


def describe_api(contract: dict, answer: dict, max_rows: int, max_body: int) -> dict:
    """Describe every route of the service.

    Parameters
    ----------
    contract
        Of the model that answers.
    answer
        The model's own to `make_example` of the contract.
    max_rows, max_body
        The limits of a request, in rows and bytes.

    Returns
    -------
    dict
        An OpenAPI 3.1 document. Ranges and categories stand in descriptions: values beyond them are answered too.
    """
    target, tag = contract["target"], answer["model"]
    row = TypeAdapter(create_row_model(contract)).json_schema()
    example = make_example(contract)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{contract['name']} predictions",
            "version": tag.partition(":")[2],
            "description": f"Predicts {target['name']} with the model {tag}, trained on {contract['rows']} rows less "
            "those held out. Columns, limits and examples are those of the model's own contract.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "tags": ["Prediction"],
                    "summary": f"Predict {target['name']}",
                    "description": f"Up to {max_rows} rows and {max_body} bytes a request. Answers come in the order of "
                    "the rows. Columns the model does not use may be left out. Columns of lists must be of one length, "
                    "indexed columns have the same indices.",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "anyOf": [
                                        _refer("Records"),
                                        _refer("Row"),
                                        _refer("Columns"),
                                        _refer("IndexedColumns"),
                                    ]
                                },
                                "examples": {
                                    name: {"summary": name, "value": body}
                                    for name, body in write_forms([example]).items()
                                },
                            }
                        },
                    },
                    "responses": {
                        "200": _respond("The answers", _refer("Answers"), answer),
                        "400": _respond(
                            "The body cannot be used; each fault is listed", _refer("Error"), _make_fault(contract)
                        ),
                        "408": _respond("The body did not arrive in time", _refer("Error")),
                        "413": _respond("Too many rows or bytes", _refer("Error")),
                        "415": _respond("The content type is not application/json", _refer("Error")),
                        "503": _respond("The model cannot answer; the reason is given", _refer("Error")),
                    },
                }
            },
            "/model": _get(
                "The model that answers", _respond("Its tag and what is known of it", _refer("Model")), "The model"
            ),
            **{
                f"/notebooks/{name}": _get(f"The executed notebook: {about}", _respond_text("text/html"), "The model")
                for name, about in PAGES.items()
            },
            "/livez": _get("Whether the process lives", _respond_text("text/plain"), "Operation", may_fail=False),
            "/readyz": _get("Whether the golden rows were answered right", _respond_text("text/plain"), "Operation"),
            "/metrics": _get("Metrics for Prometheus", _respond_text("text/plain"), "Operation", may_fail=False),
        },
        "components": {
            "schemas": {
                "Row": {**row, "title": "One record"},
                "Records": {"type": "array", "items": _refer("Row"), "minItems": 1, "maxItems": max_rows},
                "Columns": _describe_columns(
                    row,
                    example,
                    "Columns to lists",
                    lambda value: {"type": "array", "items": value, "minItems": 1, "maxItems": max_rows},
                ),
                "IndexedColumns": _describe_columns(
                    row,
                    example,
                    "Columns to indexed values",
                    lambda value: {"type": "object", "additionalProperties": value, "minProperties": 1},
                ),
                "Answers": _require(
                    model={"type": "string", "description": "the tag of the model that answered", "examples": [tag]},
                    predictions={"type": "array", "items": _refer("Answer"), "minItems": 1},
                ),
                "Answer": _describe_answer(target),
                "Error": _require(
                    error={"type": "string"},
                    detail={"type": "array", "items": _refer("Fault"), "minItems": 1, "maxItems": MOST_FAULTS},
                ),
                "Fault": _require(
                    row={"type": ["integer", "null"], "minimum": 0, "description": "counted from 0"},
                    field={"type": ["string", "null"]},
                    message={"type": "string"},
                    value=ANY_VALUE,
                ),
                "Model": _require(
                    tag={"type": "string"},
                    **{name: {"type": "object"} for name in ("contract", "metrics", "provenance", "verdict")},
                ),
            }
        },
    }


def make_example(contract: dict) -> dict:
    """One record: the first row of the training data, without the columns that are not used."""
    return {feature["name"]: feature["example"] for feature in used_features(contract)}


def _make_fault(contract: dict) -> dict:
    """The answer to the example without its first column."""
    _, *others = make_example(contract).items()
    try:
        BodyReader(contract, 1).read(to_json(dict(others)))
    except RequestError as error:
        return error.answer


def _describe_columns(row: dict, used: Iterable[str], title: str, hold: Callable[[dict], dict]) -> dict:
    """A row's schema whose used columns hold many values each; the others may hold anything."""
    columns = row["properties"]
    return {**row, "title": title, "properties": columns | {name: hold(columns[name]) for name in used}}


def _describe_answer(target: dict) -> dict:
    warnings = {"type": "array", "items": {"type": "string"}, "description": "values unlike those of the training"}
    if not target["classes"]:
        return _require(value={"type": "number"}, warnings=warnings)
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    about = "the most probable class"
    if "positive" in target:
        about = f"{target['positive']} where its probability is {target['threshold']} or more"
    return _require(
        label={"enum": target["classes"], "description": about},
        probabilities=_require(**{class_key(label): probability for label in target["classes"]}),
        warnings=warnings,
    )


def _require(**properties) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _refer(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def _respond(description: str, schema: dict, example: dict | None = None) -> dict:
    content = {"schema": schema} | ({"example": example} if example else {})
    return {"description": description, "content": {"application/json": content}}


def _respond_text(media_type: str) -> dict:
    return {"description": "As it says", "content": {media_type: {"schema": {"type": "string"}}}}


def _get(summary: str, answer: dict, tag: str, may_fail: bool = True) -> dict:
    responses = {"200": answer}
    if may_fail:
        responses["503"] = _respond("The model cannot answer; the reason is given", _refer("Error"))
    return {"get": {"summary": summary, "tags": [tag], "responses": responses}}
