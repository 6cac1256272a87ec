"""The service's OpenAPI document, made from the contract of the model that answers."""

from pydantic import TypeAdapter
from pydantic_core import to_json

from modeler.model.contract import class_key, used_features
from modeler.service.body import MOST_FAULTS, BodyReader, RequestError, create_row_model, write_forms
from modeler.service.pages import NOTEBOOKS

MOST_EXPLAINED = 100  # rows of a request to /explain
EXACTNESS = (
    "The contributions are Shapley values against the model's golden rows. They add up to the answer less `base`, within 1e-6. "
    "Each is estimated from a sample of the orders in which columns can change, the same one whenever the row is the same. "
    "It is exact where columns act alone or in pairs. Otherwise its standard error is about 0.005 of a probability, or of the "
    "range of the values, and seldom above 0.02; with hundreds of columns it may be twice as much."
)
CANNOT_ANSWER = "The model cannot answer, or too many large requests are under way; the reason is given"
TEXT = {"type": "string"}


def describe_api(contract: dict, answer: dict, max_rows: int, max_body: int) -> dict:
    """Describe every route of the service in an OpenAPI 3.1 document.

    `answer` is what the model answers to `make_example`. Ranges and categories stand in descriptions alone, because values
    beyond them are answered too.
    """
    target, tag = contract["target"], answer["model"]
    about = f"Predicts {target['name']} with the model {tag}, trained on {contract['rows']} rows less those held out."
    limits = f"Up to {max_rows} rows and {max_body} bytes a request."
    model = _respond("Its tag and what is known of it", _refer("Model"))
    lacking = {"404": _respond("The model has no such page", _refer("Error"))}
    page, text = (_respond("As it says", TEXT, media_type=kind) for kind in ("text/html", "text/plain"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{contract['name']} predictions",
            "version": tag.partition(":")[2],
            "description": f"{about} Columns, limits and examples are those of the model's own contract.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {"post": _describe_predict(contract, answer, limits)},
            "/explain": {"post": _describe_explain(contract, max_rows, max_body)},
            "/model": _get("The model", "The model that answers", model),
            "/examples": _get(
                "The model", "Rows that training did not see, to try", _respond("Rows", _refer("Examples"))
            ),
            "/card": _get("The model", "The model card", page, lacking),
            **{
                f"/notebooks/{name}": _get("The model", f"The executed notebook: {topic}", page, lacking)
                for name, topic in NOTEBOOKS.items()
            },
            "/livez": _get("Operation", "Whether the process lives", text, may_fail=False),
            "/readyz": _get("Operation", "Whether the golden rows were answered right", text),
            "/metrics": _get("Operation", "Metrics for Prometheus", text, may_fail=False),
        },
        "components": {"schemas": _describe_rows(contract, max_rows) | _describe_answers(contract, tag)},
    }


def describe_access(document: dict, keys: bool, rate: int) -> dict:
    """Add to `describe_api` what routes answer where they need a key, and where each client may ask `rate` times a second."""
    if keys:
        scheme = {"type": "http", "scheme": "bearer", "description": "a key of `python pipeline.py key NAME`"}
        document["components"]["securitySchemes"], document["security"] = {"key": scheme}, [{"key": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path in ("/livez", "/readyz"):
                operation |= {"security": []} if keys else {}
                continue
            if keys:
                operation["responses"]["401"] = _respond("A right key is missing", _refer("Error"))
            if rate:
                operation["responses"]["429"] = _respond(f"More than {rate} requests a second", _refer("Error"))
    return document


def make_example(contract: dict) -> dict:
    """One record: the first row of the training data, without the columns that are not used."""
    return {feature["name"]: feature["example"] for feature in used_features(contract)}


def _describe_predict(contract: dict, answer: dict, limits: str) -> dict:
    about = (
        f"{limits} Answers come in the order of the rows. Columns the model does not use may be left out. "
        "Columns of lists must be of one length, indexed columns have the same indices."
    )
    return _describe_post(contract, "predict", f"Predict {contract['target']['name']}", about, "Answers", answer)


def _describe_explain(contract: dict, max_rows: int, max_body: int) -> dict:
    about = (
        f"Takes what `/predict` takes, up to {min(max_rows, MOST_EXPLAINED)} rows and {max_body} bytes, and answers it with "
        f"three more fields a row. {EXACTNESS}"
    )
    return _describe_post(contract, "explain", f"Explain {contract['target']['name']}", about, "Explanations")


def _describe_post(
    contract: dict, name: str, summary: str, about: str, schema: str, answer: dict | None = None
) -> dict:
    forms = ("Records", "Row", "Columns", "IndexedColumns")
    examples = {form: {"summary": form, "value": body} for form, body in write_forms([make_example(contract)]).items()}
    content = {"schema": {"anyOf": [_refer(form) for form in forms]}, "examples": examples}
    error = _refer("Error")
    return {
        "operationId": name,
        "tags": ["Prediction"],
        "summary": summary,
        "description": about,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": _respond("The answers", _refer(schema), answer),
            "400": _respond("The body cannot be used; each fault is listed", error, _make_fault(contract)),
            "408": _respond("The body did not arrive in time", error),
            "413": _respond("Too many rows or bytes", error),
            "415": _respond("The content type is not application/json", error),
            "503": _respond(CANNOT_ANSWER, error),
        },
    }


def _make_fault(contract: dict) -> dict:
    """The answer to the example without its first column."""
    _, *others = make_example(contract).items()
    try:
        BodyReader(contract, 1).read(to_json(dict(others)))
    except RequestError as error:
        return error.answer


def _describe_rows(contract: dict, max_rows: int) -> dict:
    """The schemas of the four forms of a body. Columns that the model does not use may hold anything."""
    row = TypeAdapter(create_row_model(contract)).json_schema()
    values = {name: row["properties"][name] for name in make_example(contract)}
    lists = {name: _list(value, maxItems=max_rows) for name, value in values.items()}
    indexed = {
        name: {"type": "object", "additionalProperties": value, "minProperties": 1} for name, value in values.items()
    }
    return {
        "Row": {**row, "title": "One record"},
        "Records": _list(_refer("Row"), maxItems=max_rows),
        "Columns": {**row, "title": "Columns to lists", "properties": row["properties"] | lists},
        "IndexedColumns": {**row, "title": "Columns to indexed values", "properties": row["properties"] | indexed},
    }


def _describe_answers(contract: dict, tag: str) -> dict:
    target = contract["target"]
    if target["classes"]:
        about = "the most probable class"
        if "positive" in target:
            about = f"{target['positive']} where its probability is {target['threshold']} or more"
        probability = {"type": "number", "minimum": 0, "maximum": 1}
        probabilities = _require(**{class_key(label): probability for label in target["classes"]})
        answer = {"label": {"enum": target["classes"], "description": about}, "probabilities": probabilities}
    else:
        answer = {"value": {"type": "number"}}
    if "interval" in target:
        share = f"{100 * target['interval']:g} % of the true values lie"
        answer |= {
            "low": {"type": "number", "description": f"{share} between it and high"},
            "high": {"type": "number", "description": f"{share} between low and it"},
        }
    warnings = {"type": "array", "items": TEXT, "description": "values unlike those of the training"}
    model = TEXT | {"description": "the tag of the model that answered", "examples": [tag]}
    records = ("contract", "metrics", "provenance", "verdict")
    return {
        "Answers": _require(model=model, predictions=_list(_refer("Answer"))),
        "Answer": _require(**answer, warnings=warnings),
        "Explanations": _require(model=model, predictions=_list(_refer("Explanation"), maxItems=MOST_EXPLAINED)),
        "Explanation": _require(**answer, warnings=warnings, **_describe_explanation(contract)),
        "Error": _require(error=TEXT, detail=_list(_refer("Fault"), maxItems=MOST_FAULTS)),
        "Fault": _require(
            row={"type": ["integer", "null"], "minimum": 0, "description": "counted from 0"},
            field={"type": ["string", "null"]},
            message=TEXT,
            value={"description": "what was received; null where there was nothing"},
        ),
        "Examples": _require(model=TEXT, rows={"type": "array", "items": _refer("Row")}),
        "Model": _require(
            tag=TEXT,
            since=TEXT | {"description": "when it began to answer, in UTC"},
            **{name: {"type": "object"} for name in records},
            warnings={"type": "array"},
            reference={"type": ["object", "null"], "description": "counts of its training rows"},
        ),
    }


def _describe_explanation(contract: dict) -> dict:
    target, number = contract["target"], {"type": "number"}
    explained = map(class_key, [target["positive"]] if "positive" in target else target["classes"] or [target["name"]])
    base = "the mean answer to the golden rows: the probability of the explained class, or the value"
    return {
        "explained": {"enum": list(explained), "description": "the class, or the target, that is explained"},
        "base": number | {"description": base},
        "contributions": _require(**dict.fromkeys(make_example(contract), number))
        | {"description": "what each column adds to base"},
    }


def _list(items: dict, **limits) -> dict:
    return {"type": "array", "items": items, "minItems": 1, **limits}


def _require(**properties) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _refer(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def _respond(description: str, schema: dict, example: dict | None = None, media_type: str = "application/json") -> dict:
    content = {"schema": schema} | ({"example": example} if example else {})
    return {"description": description, "content": {media_type: content}}


def _get(tag: str, summary: str, answer: dict, failures: dict | None = None, may_fail: bool = True) -> dict:
    unready = {"503": _respond(CANNOT_ANSWER, _refer("Error"))} if may_fail else {}
    return {"get": {"summary": summary, "tags": [tag], "responses": {"200": answer, **(failures or {}), **unready}}}
